"""What stops a run from outside: signals, and the loss of one of its processes."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytorch_lightning as pl
from torch import distributed

from kanvision.callbacks import CheckpointWriteError, Preempted
from kanvision.config import disk_error, list_checkpoints, shell_word
from kanvision.signals import Stopped, set_stop_message

__all__ = ["RunStoppedError", "listens_alone", "told_how_to_go_on"]

# What torch says of a connection to a process that is gone; over gloo it has no class of its own.
LOSSES = (
    "connection closed by peer",
    "connection reset by peer",
    "broken pipe",
    "socket closed",
    "timed out",
)


class RunStoppedError(RuntimeError):
    """A run cannot go on for a reason outside of it: a full disk, or a process of it that is gone."""


def listens_alone(trainer: pl.Trainer) -> pl.Trainer:
    """Return the trainer without Lightning's own answers to signals.

    It ends with status 0 at SIGTERM, and begins a collective call in the handler.
    """
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    return trainer


@contextmanager
def told_how_to_go_on(trainer: pl.Trainer, folder: Path, stage: str) -> Iterator[None]:
    """Tell a user whose run is stopped within the block what is on the disk, and end its other processes.

    Args:
        trainer: The trainer.
        folder: The folder of the run.
        stage: What the block does: training, test.

    Raises:
        RunStoppedError: The disk takes no more, or another process of the run is gone.
    """
    try:
        with set_stop_message(lambda: f"stopped in the {stage}; {_rest(folder)}"):
            yield
    except Stopped as stopped:
        if not isinstance(stopped, Preempted):  # after which all of them end by themselves
            _end_others(trainer)
        raise
    except Exception as error:
        if (reason := _reason(error, trainer)) is None:
            raise
        _end_others(trainer)
        stop = RunStoppedError(f"{reason}\nStopped in the {stage}; {_rest(folder)}")
        if trainer.global_rank == 1:
            print(f"\n{stop}", file=sys.stderr)  # process 0, which shows errors, may be the lost one
        raise stop from error


def _reason(error: Exception, trainer: pl.Trainer) -> str | None:
    """What has stopped the run, if it is nothing of its own."""
    if isinstance(error, CheckpointWriteError):
        return str(error)
    if (cause := disk_error(error)) is not None:
        return f"The disk does not take a file: {cause}"
    said = str(error).partition("\n")[0]
    is_loss = isinstance(error, distributed.DistError) or any(loss in said.lower() for loss in LOSSES)
    if trainer.world_size == 1 or not isinstance(error, RuntimeError) or not is_loss:
        return None
    # without the place in torch's code before it, and the advice after it
    said = re.sub(r"^\[\S*\] ", "", said).partition(". This is")[0]
    who = f"process {trainer.global_rank} of {trainer.world_size}"
    return f"{who} has lost the connection to another one, whose output may say why: {said}"


def _rest(folder: Path) -> str:
    """What a run has left."""
    if not list_checkpoints(folder):
        return f"no checkpoint is in {folder}, so it can only start over"
    return f"{shell_word('resume', str(folder))} goes on from its latest checkpoint"


def _end_others(trainer: pl.Trainer) -> None:
    """End the processes that Lightning has started for this one."""
    launcher = trainer.strategy.launcher
    for process in getattr(launcher, "procs", ()):
        process.terminate()
