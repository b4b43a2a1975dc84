"""Callback that measures the time of training, over all resumes of a run."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.states import TrainerFn

__all__ = ["TrainingClock"]

KEY = "train_seconds"


class TrainingClock(Callback):
    """Counts the seconds of training and saves them in checkpoints, so that a resumed run adds to them.

    Time after the checkpoint that a run resumes from does not count, because that training is repeated. The
    seconds are not part of the callback's state, because they differ between two otherwise equal runs.
    """

    def __init__(self) -> None:
        self._before = 0.0
        self._started: float | None = None

    @property
    def seconds(self) -> float:
        """Number of seconds of training up to now or to its end."""
        return self._before + (time.perf_counter() - self._started if self._started is not None else 0.0)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Start the clock."""
        if stage == TrainerFn.FITTING:
            self._before, self._started = 0.0, time.perf_counter()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Stop the clock."""
        self._before, self._started = self.seconds, None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the seconds to a checkpoint."""
        checkpoint[KEY] = self.seconds

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Start with the seconds of the checkpoint that training resumes from, but not of one to test."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._before = float(checkpoint.get(KEY, 0.0))
