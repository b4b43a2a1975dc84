"""The seconds of a run that was interrupted are those of all its pieces."""

import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kanvision.callbacks import TrainingClock
from kanvision.callbacks.training_clock import measure_cpu_seconds
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
    assert 0 < load_checkpoint(tmp_path / "last.ckpt")["train_cpu_seconds"] <= second.cpu_seconds


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


def spin(seconds: float, ready: Any, go_on: Any) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    ready.set()
    go_on.wait()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="live children count on Linux only")
def test_the_work_of_a_live_worker_counts_and_waiting_does_not() -> None:
    """A loader's workers live as long as training, so their time must not wait for their end."""
    context = multiprocessing.get_context("fork")
    ready, go_on = context.Event(), context.Event()
    before = measure_cpu_seconds()
    child = context.Process(target=spin, args=(0.3, ready, go_on))
    child.start()
    ready.wait()
    living = measure_cpu_seconds() - before
    go_on.set()
    child.join()
    ended = measure_cpu_seconds() - before
    assert 0.28 < living < 0.6
    assert living - 0.02 < ended < 0.6  # counted once
    time.sleep(0.2)
    assert measure_cpu_seconds() - before - ended < 0.1
