"""Smoke test: train a classifier and a segmenter, resume, evaluate, predict, and build every basis.

`make test ARGS="-m smoke"` runs this file alone: a first answer for a fresh environment.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from kanvision.bases import BASES, create_basis
from kanvision.layers import KANConv2d
from tests.data.fake_masks import geotiff
from tests.programs import run_program

pytestmark = pytest.mark.smoke
REPOSITORY = Path(__file__).parents[1]
QUICK = ("trainer=cpu", "trainer.enable_progress_bar=false", "logger=none", "scheduler.warmup_epochs=0")
SMALL = ("data.limit=64", "data.limit_test=64", "data.batch_size=16")


def call(folder: Path, script: str, *overrides: str) -> str:
    """Run `train.py` or `eval.py` in a folder and return its output."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = run_program([str(REPOSITORY / script), *overrides], folder, environment)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_classifier_trains_resumes_and_evaluates(tmp_path: Path) -> None:
    """Catches an environment in which the default model cannot train, resume or be tested."""
    words = (*QUICK, *SMALL, "model.width_scale=0.125")
    assert "test/acc1" in call(tmp_path, "train.py", *words, "trainer.max_epochs=1", "run.dir=run")
    call(tmp_path, "train.py", *words, "trainer.max_epochs=2", "resume=run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["epochs"], metrics["resumed"]) == (2, True)
    assert "test/acc1" in call(tmp_path, "eval.py", "ckpt=run", "trainer.accelerator=cpu")


def test_segmenter_trains_and_predicts(tmp_path: Path) -> None:
    """Catches an environment in which masks are not read, learned or written."""
    words = (*QUICK, *SMALL, "model=ukan", "data=synthetic_fields", "data.img_size=32")
    assert "test/iou" in call(tmp_path, "train.py", *words, "trainer.max_epochs=1", "run.dir=run")
    scene = geotiff(tmp_path / "scene.tif", np.full((4, 40, 50), 0.3, np.float32))
    words = ("ckpt=run", f"input={scene}", "output=masks", "trainer.accelerator=cpu")
    call(tmp_path, "eval.py", "mode=predict", *words)
    assert list((tmp_path / "masks").rglob("*.tif"))


@pytest.mark.parametrize("name", sorted(BASES))
def test_every_basis_builds_and_has_gradients(name: str) -> None:
    """Catches a basis whose layer does not build, or gives no finite output and gradient."""
    torch.manual_seed(0)
    layer = KANConv2d(2, 3, 3, basis=create_basis(name))
    output = layer(torch.randn(1, 2, 6, 6))
    output.sum().backward()
    assert output.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
