"""Which checkpoints lie on disk when, and that nobody else's is overwritten."""

import os
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from kanvision.callbacks import BestCheckpoint, LastCheckpoint, StepCheckpoint
from kanvision.callbacks.atomic_io import AtomicCheckpointIO
from kanvision.checkpoints import CheckpointError, load_checkpoint
from tests.tasks.tiny_problem import TinyData, tiny_task, tiny_trainer


class Scripted(Callback):
    """Replaces the validation score by given ones, and looks at the disk before each epoch."""

    def __init__(self, folder: Path, scores: list[float]) -> None:
        self.folder, self.scores = folder, scores
        self.seen: list[dict[str, int]] = []

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.log("val/score", self.scores[trainer.current_epoch])

    def look(self) -> None:
        files = sorted(self.folder.glob("*"))
        self.seen.append({path.name: load_checkpoint(path)["epoch"] for path in files})

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.look()


def fit(
    folder: Path,
    scores: list[float],
    mode: str = "max",
    resume: Path | None = None,
    keep: int = 1,
    **options: Any,
) -> Scripted:
    script = Scripted(folder, scores)
    callbacks = [script, BestCheckpoint(folder, "val/score", mode, keep), LastCheckpoint(folder)]
    trainer = tiny_trainer(folder, callbacks=callbacks, max_epochs=len(scores), **options)
    trainer.fit(tiny_task(mixup={}), datamodule=TinyData(), ckpt_path=resume)
    script.look()
    return script


def test_best_and_last_are_there_after_every_epoch(tmp_path: Path) -> None:
    seen = fit(tmp_path, [0.5, 0.7, 0.6]).seen
    assert seen == [
        {},
        {"best.ckpt": 0, "last.ckpt": 0},
        {"best.ckpt": 1, "last.ckpt": 1},
        {"best.ckpt": 1, "last.ckpt": 2},
    ]


@pytest.mark.parametrize(("mode", "best"), [("max", 1), ("min", 2)])
def test_nan_never_beats_a_number(tmp_path: Path, mode: str, best: int) -> None:
    seen = fit(tmp_path, [float("nan"), 0.5, 0.4, float("nan")], mode).seen
    assert [files["best.ckpt"] for files in seen[1:]] == [0, 1, best, best]


def test_epochs_without_validation_are_saved_as_last_only(tmp_path: Path) -> None:
    seen = fit(tmp_path, [0.9, 0.5, 0.9, 0.4], check_val_every_n_epoch=2).seen
    assert seen[1:] == [
        {"last.ckpt": 0},
        {"best.ckpt": 1, "last.ckpt": 1},
        {"best.ckpt": 1, "last.ckpt": 2},
        {"best.ckpt": 1, "last.ckpt": 3},
    ]


@pytest.mark.parametrize("moved", [False, True])
def test_the_record_survives_resuming_and_moving(tmp_path: Path, moved: bool) -> None:
    folder = tmp_path / "a"
    fit(folder, [0.9, 0.5])
    if moved:
        folder = folder.rename(tmp_path / "b")
    seen = fit(folder, [0.9, 0.5, 0.7], resume=folder / "last.ckpt").seen
    assert seen[-1] == {"best.ckpt": 0, "last.ckpt": 2}


def test_the_record_of_a_deleted_checkpoint_is_forgotten(tmp_path: Path) -> None:
    fit(tmp_path, [0.9])
    (tmp_path / "best.ckpt").unlink()
    seen = fit(tmp_path, [0.9, 0.5, 0.4], resume=tmp_path / "last.ckpt").seen
    assert seen[-1] == {"best.ckpt": 1, "last.ckpt": 2}


def test_another_run_is_not_overwritten(tmp_path: Path) -> None:
    fit(tmp_path / "a", [0.5])
    before = {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()}
    with pytest.raises(ValueError, match=r"run\.dir.*belongs to another run"):
        fit(tmp_path / "a", [0.5])
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with pytest.raises(ValueError, match="belongs to another run"):
        fit(tmp_path / "a", [0.5, 0.6], resume=tmp_path / "b" / "last.ckpt")
    assert {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()} == before
    # training on in a new folder from another run's checkpoint is legal
    seen = fit(tmp_path / "c", [0.5, 0.4], resume=tmp_path / "b" / "last.ckpt").seen
    assert seen[-1] == {"best.ckpt": 1, "last.ckpt": 1}


def test_a_trial_run_writes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    callbacks = [BestCheckpoint(folder, "val/acc1"), LastCheckpoint(folder)]
    tiny_trainer(tmp_path, callbacks=callbacks, fast_dev_run=True).fit(tiny_task(), datamodule=TinyData())
    assert not folder.exists() or not os.listdir(folder)


def test_best_score_is_what_is_reported(tmp_path: Path) -> None:
    best = BestCheckpoint(tmp_path, "val/loss", "min")
    trainer = tiny_trainer(tmp_path, callbacks=[best, LastCheckpoint(tmp_path)], max_epochs=2)
    trainer.fit(tiny_task(), datamodule=TinyData())
    assert trainer.checkpoint_callback is best
    score = trainer.validate(datamodule=TinyData(), ckpt_path="best", verbose=False)[0]["val/loss"]
    assert torch.allclose(best.best_model_score, torch.tensor(score))


def test_several_of_the_best_are_kept(tmp_path: Path) -> None:
    seen = fit(tmp_path, [0.5, 0.7, 0.6], keep=2).seen
    assert seen[-1] == {"best.ckpt": 1, "best_0001.ckpt": 1, "best_0002.ckpt": 2, "last.ckpt": 2}
    assert (tmp_path / "best.ckpt").readlink() == Path("best_0001.ckpt")
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    seen = fit(moved, [0.5, 0.7, 0.6, 0.65, 0.9], keep=2, resume=moved / "last.ckpt").seen
    assert seen[1] == {"best.ckpt": 1, "best_0001.ckpt": 1, "best_0003.ckpt": 3, "last.ckpt": 3}
    assert seen[2] == {"best.ckpt": 4, "best_0001.ckpt": 1, "best_0004.ckpt": 4, "last.ckpt": 4}


@pytest.mark.parametrize(
    ("options", "steps"),
    [({"every_n_minutes": 1e-9}, [1, 2, 3, 4, 5]), ({"every_n_minutes": None, "every_n_steps": 2}, [2, 4])],
)
def test_within_an_epoch_by_the_clock_or_by_steps(
    tmp_path: Path, options: dict[str, Any], steps: list[int]
) -> None:
    """The epoch's end has a file of its own, and takes the other one away."""
    seen = []

    class Look(pl.callbacks.Checkpoint):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            path = tmp_path / "step.ckpt"
            if path.exists() and load_checkpoint(path)["global_step"] == trainer.global_step:
                seen.append(trainer.global_step)

    callbacks = [LastCheckpoint(tmp_path), StepCheckpoint(tmp_path, **options), Look()]
    trainer = tiny_trainer(tmp_path, callbacks=callbacks, max_epochs=1)
    trainer.fit(tiny_task(), datamodule=TinyData())
    assert trainer.global_step == 6
    assert seen == steps
    assert os.listdir(tmp_path) == ["last.ckpt"]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: BestCheckpoint("", "val/acc1", keep=0), "best.keep=0"),
        (lambda: StepCheckpoint("", every_n_minutes=0), "step.every_n_minutes=0"),
        (lambda: StepCheckpoint("", every_n_steps=-1), "step.every_n_steps=-1"),
    ],
)
def test_arguments_are_checked(make: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


def test_a_write_that_fails_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk."""
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"number": torch.tensor(1)}, path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"last\.ckpt: the checkpoint could not be written"):
            AtomicCheckpointIO().save_checkpoint({"number": torch.zeros(100_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert load_checkpoint(path)["number"] == 1
    assert os.listdir(tmp_path) == ["last.ckpt"]


def test_a_damaged_file_is_not_loaded(tmp_path: Path) -> None:
    path, value = tmp_path / "a.ckpt", torch.full((50,), 1.5)
    AtomicCheckpointIO().save_checkpoint({"value": value}, path)
    assert torch.equal(AtomicCheckpointIO().load_checkpoint(path, weights_only=True)["value"], value)
    content = bytearray(path.read_bytes())
    content[content.index(value.numpy().tobytes()) + 9] ^= 4
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="the file is damaged"):
        AtomicCheckpointIO().load_checkpoint(path)
