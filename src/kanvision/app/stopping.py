"""What stops a run from outside: signals, and the loss of one of its processes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytorch_lightning as pl
from torch import distributed

from kanvision.callbacks import Preempted
from kanvision.config import checkpoints_of
from kanvision.signals import Stopped, saying

__all__ = ["LostProcessError", "listens_alone", "told_how_to_go_on"]

# What torch says of a connection to a process that is gone; over gloo it has no class of its own.
LOSSES = (
    "connection closed by peer",
    "connection reset by peer",
    "broken pipe",
    "socket closed",
    "timed out",
)


class LostProcessError(RuntimeError):
    """A process of a run has ended, and the others cannot go on without it."""


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
        LostProcessError: Another process of the run is gone.
    """
    try:
        with saying(lambda: f"stopped in the {stage}; {_rest(folder)}"):
            yield
    except Stopped as stopped:
        if not isinstance(stopped, Preempted):  # after which all of them end by themselves
            _end_others(trainer)
        raise
    except RuntimeError as error:
        if trainer.world_size == 1 or not _is_loss(error):
            raise
        _end_others(trainer)
        lost = LostProcessError(
            f"process {trainer.global_rank} of {trainer.world_size} has lost the connection to another one "
            f"in the {stage} ({str(error).splitlines()[0]})\n"
            f"The output of the lost process may say why; {_rest(folder)}"
        )
        if trainer.global_rank == 1:
            print(lost, file=sys.stderr)  # process 0, which shows errors, may be the lost one
        raise lost from error


def _rest(folder: Path) -> str:
    """What a run has left."""
    if not checkpoints_of(folder):
        return f"no checkpoint is in {folder}, so it can only start over"
    return f"resume={folder} goes on from its latest checkpoint"


def _is_loss(error: RuntimeError) -> bool:
    text = str(error).lower()
    return isinstance(error, distributed.DistError) or any(loss in text for loss in LOSSES)


def _end_others(trainer: pl.Trainer) -> None:
    """End the processes that Lightning has started for this one."""
    launcher = trainer.strategy.launcher
    for process in getattr(launcher, "procs", ()):
        process.terminate()
