"""Callback that measures the time of training, over all resumes of a run."""

from __future__ import annotations

import math
import multiprocessing
import os
import sys
import time
from typing import Any, NamedTuple

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.states import TrainerFn

__all__ = ["TrainingClock", "measure_cpu_seconds"]


class Seconds(NamedTuple):
    """Wall time and processor time."""

    wall: float
    cpu: float

    def minus(self, other: Seconds) -> Seconds:
        """Return the time between two readings."""
        return Seconds(self.wall - other.wall, self.cpu - other.cpu)

    def plus(self, other: Seconds) -> Seconds:
        """Return the sum of two durations."""
        return Seconds(self.wall + other.wall, self.cpu + other.cpu)


WALL, CPU = "train_seconds", "train_cpu_seconds"
"""Names of both times in checkpoints and records."""


class TrainingClock(Callback):
    """Counts the seconds of training and saves them in checkpoints, so that a resumed run adds to them.

    Time after the checkpoint that a run resumes from does not count, because that training is repeated. The
    seconds are not part of the callback's state, because they differ between two otherwise equal runs.
    """

    def __init__(self) -> None:
        self._before = Seconds(0.0, 0.0)
        self._started: Seconds | None = None

    @property
    def seconds(self) -> float:
        """Number of seconds of training up to now or to its end."""
        return self._total().wall

    @property
    def cpu_seconds(self) -> float:
        """Processor time of training, by this process and its loader workers; NaN if a part is unknown."""
        return self._total().cpu

    def _total(self) -> Seconds:
        return self._before if self._started is None else self._before.plus(_read().minus(self._started))

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Start the clock."""
        if stage == TrainerFn.FITTING:
            self._before, self._started = Seconds(0.0, 0.0), _read()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Stop the clock."""
        self._before, self._started = self._total(), None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the seconds to a checkpoint."""
        checkpoint[WALL], checkpoint[CPU] = self._total()

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Start with the seconds of the checkpoint that training resumes from, but not of one to test."""
        if trainer.state.fn == TrainerFn.FITTING:
            # checkpoints of earlier versions have no processor time
            self._before = Seconds(float(checkpoint.get(WALL, 0.0)), float(checkpoint.get(CPU, math.nan)))


def _read() -> Seconds:
    return Seconds(time.perf_counter(), measure_cpu_seconds())


def measure_cpu_seconds() -> float:
    """Return the processor time of this process and its child processes up to now, all threads together.

    A live child process, such as a worker of a loader, counts on Linux; elsewhere children count when they
    have ended, on Windows never.
    """
    times = os.times()
    finished = times.user + times.system + times.children_user + times.children_system
    return finished + sum(_child_seconds(child.pid) for child in multiprocessing.active_children())


def _child_seconds(pid: int | None) -> float:
    """Return the processor time of a live child process; 0 where it cannot be read."""
    if pid is None or not sys.platform.startswith("linux"):
        return 0.0
    try:
        # the clock of another process, as clock_getcpuclockid(3) makes it
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:  # it has just ended
        return 0.0
