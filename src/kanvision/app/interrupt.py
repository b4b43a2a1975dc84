"""Interruption of a run from outside: signals, a full disk, and the loss of one of its processes."""

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

__all__ = ["RunStoppedError", "disable_signal_handlers", "explain_interruption"]

# torch's messages on a lost connection to another process; over gloo the error has no class of its own
CONNECTION_ERRORS = (
    "connection closed by peer",
    "connection reset by peer",
    "broken pipe",
    "socket closed",
    "timed out",
)


class RunStoppedError(RuntimeError):
    """The error of a run that was stopped from outside: the disk is full or one of its processes is lost."""


def disable_signal_handlers(trainer: pl.Trainer) -> pl.Trainer:
    """Return the trainer without Lightning's signal handlers.

    That of SIGTERM ends the program with status 0 and begins a collective call within the handler.
    """
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    return trainer


@contextmanager
def explain_interruption(trainer: pl.Trainer, folder: Path, stage: str) -> Iterator[None]:
    """Print how to resume a run that is interrupted within the block, and end its other processes.

    Raises:
        RunStoppedError: If the disk is full or another process of the run is lost.
    """
    try:
        with set_stop_message(lambda: f"stopped during {stage}; {_resume_advice(folder)}"):
            yield
    except Stopped as stopped:
        if not isinstance(stopped, Preempted):  # after which all processes end by themselves
            _terminate_others(trainer)
        raise
    except Exception as error:
        if (reason := _outside_reason(error, trainer)) is None:
            raise
        _terminate_others(trainer)
        stop = RunStoppedError(f"{reason}\nStopped during {stage}; {_resume_advice(folder)}")
        if trainer.global_rank == 1:
            print(f"\n{stop}", file=sys.stderr)  # rank 0, which shows errors, may be the lost process
        raise stop from error


def _outside_reason(error: Exception, trainer: pl.Trainer) -> str | None:
    """Return what has stopped the run from outside; None for an error of the run itself."""
    if isinstance(error, CheckpointWriteError):
        return str(error)
    if (cause := disk_error(error)) is not None:
        return f"The disk does not take a file: {cause}"
    message = str(error).partition("\n")[0]
    is_lost = isinstance(error, distributed.DistError) or any(
        text in message.lower() for text in CONNECTION_ERRORS
    )
    if trainer.world_size == 1 or not isinstance(error, RuntimeError) or not is_lost:
        return None
    # without the line of torch's source before it, and the advice after it
    message = re.sub(r"^\[\S*\] ", "", message).partition(". This is")[0]
    process = f"process {trainer.global_rank} of {trainer.world_size}"
    return f"{process} has lost the connection to another one, whose output may say why: {message}"


def _resume_advice(folder: Path) -> str:
    """Return how a run in this folder can be resumed."""
    if not list_checkpoints(folder):
        return f"{folder} holds no checkpoint, so training has to start over"
    return f"{shell_word('resume', str(folder))} continues from its latest checkpoint"


def _terminate_others(trainer: pl.Trainer) -> None:
    """Terminate the processes that Lightning has started for this one."""
    launcher = trainer.strategy.launcher
    for process in getattr(launcher, "procs", ()):
        process.terminate()
