"""Presets of callbacks and loggers: combined, trained with, and resumed."""

import importlib.util
import os
from pathlib import Path

import pytest
import torch
import yaml

from tests.programs import run_program

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    *("trainer=cpu", "model.size=4", "model.width_scale=0.25", "data.limit=60", "data.limit_test=20"),
    *("data.batch_size=10", "trainer.enable_progress_bar=false", "test=false"),
)


def train(folder, *words, **environment):
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", **environment}
    process = run_program([str(ROOT / "train.py"), *SMALL, *words], folder, settings)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def test_combined_callbacks_run_and_resume(tmp_path):
    """Presets that do not go together, or a run with them that is not the same after a resume."""
    presets = ("callbacks=[default,early_stopping,swa,lr_finder]", "callbacks.lr_finder.num_steps=8")
    constant = ("scheduler.name=constant", "scheduler.warmup_epochs=0", "callbacks.swa.start=1")
    words = (*presets, *constant, "logger=[csv]", "trainer.val_check_interval=3", "seed=3")
    shown = train(tmp_path, *words, "trainer.max_epochs=3", "run.dir=whole")
    assert "Learning rate finder" in shown
    assert (tmp_path / "whole" / "pictures" / "lr_finder.png").is_file()
    assert not (tmp_path / "whole" / "tensorboard").exists()
    config = yaml.safe_load((tmp_path / "whole" / "config.yaml").read_text())
    assert {"best", "early_stopping", "swa", "lr_finder"} <= config["callbacks"].keys()
    train(tmp_path, *words, "trainer.max_epochs=1", "run.dir=parts")
    (tmp_path / "parts" / "metrics.json").unlink()
    train(tmp_path, *words, "trainer.max_epochs=3", "resume=parts")
    whole, parts = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)
        for name in ("whole", "parts")
    )
    assert whole["global_step"] == parts["global_step"] == 18
    assert all(torch.equal(value, parts["state_dict"][key]) for key, value in whole["state_dict"].items())


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_logger_of_an_extra_writes_without_a_network(tmp_path, name):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    train(tmp_path, f"logger=[csv,{name}]", "trainer.max_steps=2", "run.dir=run")
    inside = tmp_path / "run"
    written = [path for path in inside.rglob("*") if name in path.relative_to(inside).as_posix()]
    assert any(path.is_file() and path.stat().st_size for path in written)
    assert (tmp_path / "run" / "csv" / "metrics.csv").is_file()
