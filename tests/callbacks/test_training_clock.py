"""The seconds of a run that was interrupted are those of all its pieces."""

import time
from pathlib import Path

import pytest

from kanvision.callbacks import TrainingClock
from kanvision.checkpoints import load_checkpoint

from .stepwise import At, CrashError, crash, train


def pause() -> None:
    time.sleep(0.3)


def test_pieces_add_up(tmp_path: Path) -> None:
    first = TrainingClock()
    with pytest.raises(CrashError):
        train(tmp_path, At(3, pause), At(10, crash), first)
    before = load_checkpoint(tmp_path / "last.ckpt")["train_seconds"]
    assert 0.3 < before < first.seconds
    second = TrainingClock()
    train(tmp_path, second, resume=tmp_path / "last.ckpt")
    total = second.seconds
    assert total > before
    assert load_checkpoint(tmp_path / "last.ckpt")["train_seconds"] <= total
    time.sleep(0.05)
    assert second.seconds == total  # it stands still after training


def test_a_run_that_only_goes_on_with_its_test_keeps_its_seconds(tmp_path: Path) -> None:
    train(tmp_path, At(3, pause), TrainingClock())
    before = load_checkpoint(tmp_path / "last.ckpt")["train_seconds"]
    clock = TrainingClock()
    train(tmp_path, clock, resume=tmp_path / "last.ckpt")
    assert clock.seconds > before > 0.3


def test_a_new_training_starts_at_nothing(tmp_path: Path) -> None:
    clock = TrainingClock()
    train(tmp_path / "a", At(3, pause), clock)
    start = time.perf_counter()
    train(tmp_path / "b", clock)
    assert load_checkpoint(tmp_path / "b" / "last.ckpt")["train_seconds"] < time.perf_counter() - start
