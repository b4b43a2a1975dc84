"""Evaluation on data other than the run's own: classes by name, results in a place of their own."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kanvision.app.check_data import check_data
from kanvision.app.evaluate import evaluate
from kanvision.app.explain.run import explain
from kanvision.app.train import train
from kanvision.checkpoints import CheckpointError
from kanvision.config import EvalConfig, compose, parse_eval, parse_train
from kanvision.data import DataError
from kanvision.tasks import NonFiniteError

CONF = Path(__file__).resolve().parents[2] / "conf"
SHADES = {"ant": (220, 40, 40), "bee": (40, 220, 40), "cow": (40, 40, 220), "zebu": (128, 128, 128)}
TINY = (
    *("model.size=4", "model.width_scale=0.25", "data=image_folder", "data.img_size=8", "data.batch_size=6"),
    *("scheduler.warmup_epochs=0", "trainer=cpu", "trainer.max_epochs=8", "optimizer.lr=0.005"),
    *("trainer.enable_progress_bar=false", "data.num_workers=0", "logger=none", "callbacks=default"),
    *("data.val_fraction=0.25", "++callbacks.prediction_images.num_images=1"),
)


def find_run_folder(root: Path, *classes: str, images: int = 8) -> Path:
    """Images of one color a class, with a little noise."""
    rng = np.random.default_rng(0)
    for name in classes:
        for part in ("train", "test"):
            (root / part / name).mkdir(parents=True)
            for number in range(images):
                noise = rng.integers(-20, 20, (8, 8, 3))
                pixels = np.clip(np.array(SHADES[name]) + noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that tells ants, bees and cows apart."""
    folder = tmp_path_factory.mktemp("trained")
    root = find_run_folder(folder / "zoo", "ant", "bee", "cow")
    words = [*TINY, f"data.root={root}", f"run.dir={folder / 'run'}"]
    train(parse_train(compose("train", words, CONF)))
    evaluate(asked(folder / "run"))
    assert recorded(folder / "run" / "eval" / "test.json")["test/acc1"] == 1.0
    return folder / "run"


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def asked(run: Path, *words: str) -> EvalConfig:
    words = (f"ckpt={run}", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false", *words)
    config = parse_eval(compose("eval", words, CONF))
    assert isinstance(config, EvalConfig)
    return config


def recorded(path: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads(path.read_text("utf-8"))
    return found


def results(run: Path) -> dict[str, bytes]:
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in run.rglob("test.json")}


def test_classes_are_those_of_the_run_by_their_names(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = results(run)
    root = find_run_folder(tmp_path / "farm yard", "bee", "cow")
    scores = evaluate(asked(run, f"data.root='{root}'"))
    assert scores["test/acc1"] == 1.0  # by their own order they would be ant and bee: 0
    told = " ".join(capsys.readouterr().out.split())
    assert "2 of the 3 that the network knows (bee, cow); predictions are over all 3" in told
    # would catch a folder without split folders of which a fifth is measured without a word
    assert "16 of the test split; not measured: train " in told
    (new,) = set(results(run)) - set(before)
    assert new.startswith("eval/farm_yard_")
    record = recorded(run / new)
    assert (record["classes"], record["root"], record["images"]) == (["bee", "cow"], str(root), 16)
    assert {name: results(run)[name] for name in before} == before
    shutil.rmtree((run / new).parent)


@pytest.mark.parametrize("split", ["test", "val"])
def test_data_for_evaluation_need_no_training_images(run: Path, tmp_path: Path, split: str) -> None:
    """Detects a split that is asked for although nothing of it is measured."""
    root = find_run_folder(tmp_path / "only", "bee", "cow")
    shutil.rmtree(root / "train")
    (root / "test").rename(root / split)
    output = f"output={tmp_path / 'out'}"
    assert evaluate(asked(run, f"data.root={root}", output))["test/acc1"] == 1.0
    record = recorded(tmp_path / "out" / "test.json")
    assert (record["classes"], record["images"]) == (["bee", "cow"], 16)
    with pytest.raises(DataError, match="the split val holds no image"):
        evaluate(asked(run, f"data.root={root}", output, "split=val"))


def test_a_folder_of_classes_says_how_all_of_it_is_measured(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Detects a fifth that is measured without a word on how to measure all images."""
    root = find_run_folder(tmp_path / "farm", "bee", "cow") / "train"
    evaluate(asked(run, f"data.root={root}", f"output={tmp_path / 'out'}"))
    told = "".join(capsys.readouterr().out.replace("│", "").split())  # a table wraps it
    assert "".join(f"move the class folders into {root / 'test'} to measure all images".split()) in told


@pytest.mark.parametrize("mode", ["test", "explain", "check_data"])
def test_a_class_that_the_network_does_not_know_is_named(mode: str, run: Path, tmp_path: Path) -> None:
    before = results(run)
    root = find_run_folder(tmp_path / "farm", "bee", "cow", "zebu")
    modes: dict[str, Callable[[EvalConfig], object]] = {
        "test": evaluate,
        "explain": explain,
        "check_data": check_data,
    }
    output = tmp_path / "out"
    with pytest.raises(DataError) as refused:
        modes[mode](asked(run, f"mode={mode}", f"data.root={root}", f"output={output}"))
    text = (output / "check_data.csv").read_text() if mode == "check_data" else str(refused.value)
    words = "the classes zebu are not among the 3 that the network was trained on (ant, bee, cow)"
    assert words in text
    assert results(run) == before


@pytest.mark.parametrize(
    ("words", "file"),
    [
        ("data.limit_test=4", "limit_test_4/test.json"),
        ("trainer.precision=64-true", "64-true/test.json"),
        ("split=val", "val.json"),
        ("data.batch_size=3", "test.json"),
    ],
)
def test_what_is_measured_otherwise_is_written_elsewhere(words: str, file: str, run: Path) -> None:
    before = (run / "eval" / "test.json").read_bytes()
    evaluate(asked(run, words))
    assert (run / "eval" / file).exists()
    assert file == "test.json" or (run / "eval" / "test.json").read_bytes() == before


def changed(run: Path, folder: Path, **values: object) -> Path:
    """A copy of the run whose checkpoint holds something else."""
    shutil.copytree(run, folder)
    path = folder / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["kanvision"] |= {k: v for k, v in values.items() if k != "weights"}
    if "weights" in values:
        for tensor in checkpoint["state_dict"].values():
            if tensor.is_floating_point():
                tensor.fill_(torch.nan)
    path.unlink()
    torch.save(checkpoint, path)
    return folder


def test_another_checkpoint_of_the_run_has_results_of_its_own(run: Path) -> None:
    before = (run / "eval" / "test.json").read_bytes()
    evaluate(asked(run / "checkpoints" / "last.ckpt"))
    assert (run / "eval" / "test.json").read_bytes() == before
    assert str(recorded(run / "eval" / "last" / "test.json")["checkpoint"]).endswith("last.ckpt")


def test_an_old_checkpoint_without_names_says_so(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = changed(run, tmp_path / "old", class_names=[])
    evaluate(asked(old))
    assert "not compared: the checkpoint is too old" in " ".join(capsys.readouterr().out.split())
    assert recorded(old / "eval" / "test.json")["classes"] is None
    root = find_run_folder(tmp_path / "farm", "bee", "cow")
    with pytest.raises(DataError, match=r"data\.num_classes=3, but the data have 2 classes"):
        evaluate(asked(old, f"data.root={root}"))


def test_a_network_without_numbers_leaves_no_result(run: Path, tmp_path: Path) -> None:
    spoilt = changed(run, tmp_path / "spoilt", weights=True)
    (spoilt / "eval" / "test.json").unlink()
    with pytest.raises(NonFiniteError, match=r"^test: .* for 24 of 24 images, so there is no score"):
        evaluate(asked(spoilt))
    assert not (spoilt / "eval" / "test.json").exists()


def test_training_goes_on_with_the_same_classes_only(run: Path, tmp_path: Path) -> None:
    folder, root = tmp_path / "run", tmp_path / "zoo"
    shutil.copytree(run, folder)
    (folder / "metrics.json").unlink()
    find_run_folder(root, "ant", "bee", "zebu")
    words = [*TINY, f"data.root={root}", f"run.dir={folder}", f"resume={folder}", "trainer.max_epochs=9"]
    with pytest.raises(CheckpointError, match="the data are now without cow and with zebu"):
        train(parse_train(compose("train", words, CONF)))


def test_finetuning_on_other_classes_starts_with_a_new_head(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = find_run_folder(tmp_path / "farm", "bee", "cow", "zebu")
    words = [*TINY, f"data.root={root}", "trainer.fast_dev_run=1", f"finetune.init_from={run}"]
    train(parse_train(compose("train", words, CONF)))
    told = " ".join(capsys.readouterr().out.split())
    assert "anew: head.fc.weight, head.fc.bias; its classes are others, or in another order" in told
