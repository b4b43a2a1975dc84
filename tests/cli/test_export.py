"""`eval.py mode=export`: files, their record, and the scores of 8-bit weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import kanvision as kv
from kanvision.app.evaluate import evaluate
from kanvision.app.export import export
from kanvision.config import EvalConfig

from .test_predict import CPU, trained


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("digits") / "run"
    return trained(folder, "model.width_scale=0.125", "data.num_workers=0", "trainer.limit_train_batches=10")


def test_files_of_a_run_and_the_scores_of_8_bits(run: Path, tmp_path: Path) -> None:
    """Weights of another epoch, a record without preprocessing or names, and a wrong score are found."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    options = {**CPU, "mode": "export", "output": str(tmp_path), "data": {"num_workers": 0}}
    cfg = EvalConfig(ckpt=str(run), format=["safetensors", "onnx"], quantize="int8", **options)
    files = {path.name: path for path in export(cfg)}
    assert set(files) == {"model.safetensors", "model.onnx", "model.int8.onnx", "export.json"}
    about = json.loads(files["export.json"].read_text())
    tested = evaluate(EvalConfig(ckpt=str(run), **{**options, "mode": "test", "images": False}))
    assert about["files"]["model.onnx"]["scores"] == pytest.approx(tested, abs=1e-4)
    assert set(about["files"]["model.int8.onnx"]["scores"]) == set(tested)
    assert files["model.int8.onnx"].stat().st_size < files["model.onnx"].stat().st_size
    checkpoint = run / "checkpoints" / "best.ckpt"
    assert files["model.safetensors"].stat().st_size < 0.5 * checkpoint.stat().st_size
    images = list(np.random.default_rng(0).integers(0, 256, (3, 20, 10), np.uint8))
    expected = kv.load_run(run)(images)
    for name in ("model.safetensors", "model.onnx"):
        predictor = kv.load_run(files[name])
        assert str(run) not in json.dumps(predictor.record.to_dict())
        assert predictor.record.config["model"]["width_scale"] == 0.125
        for mine, theirs in zip(expected, predictor(images), strict=True):
            assert mine.class_names == theirs.class_names == tuple("0123456789")
            np.testing.assert_allclose(mine.probabilities, theirs.probabilities, atol=1e-5)


def test_the_program_exports_and_refuses(program, run: Path, tmp_path: Path) -> None:
    line = ("mode=export", f"ckpt={run}", "output=out")
    done = program("eval.py", *line, "format=[torchscript]", "export.img_size=16")
    assert "model.torchscript" in done.stdout, done.stdout
    module = torch.jit.load(tmp_path / "out" / "model.torchscript")
    assert module(torch.zeros(3, 1, 16, 16)).shape == (3, 10)
    done = program("eval.py", *line, "format=[torchscript]", "export.sizes=[[9,9]]", check=False)
    assert "export.sizes: 9 x 9" in done.stderr, done.stderr
    done = program("eval.py", *line, "split=val", "quantize=int8", check=False)
    for words in ("mode=export needs formats", "legal: format=[pt2,torchscript,safetensors,onnx]"):
        assert words in done.stderr, done.stderr
