"""Callback that estimates the time of an epoch from its first batches."""

from __future__ import annotations

import time
import warnings
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

__all__ = ["EpochEstimate"]

LIMIT = 600.0
"""Seconds of an epoch above which a note is printed."""
MEASURED = 20.0
"""Seconds of batches that an estimate needs, or a tenth of the epoch if that is less."""
WARM_UP = 2
"""Batches before the measurement, which start loaders and compile."""


class EpochEstimate(Callback):
    """Prints once, early in the first epoch, that an epoch takes longer than ten minutes.

    The note has the number of training images with which it would take ten minutes.
    """

    def __init__(self) -> None:
        self._started: float | None = None
        self._first = 0
        self._is_done = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure the time of batches until an estimate is possible."""
        if self._is_done or not trainer.is_global_zero:
            return
        now = time.perf_counter()
        if self._started is None:
            if batch_idx + 1 >= WARM_UP:
                self._started, self._first = now, batch_idx
            return
        done, total = batch_idx - self._first, int(trainer.num_training_batches)
        seconds = now - self._started
        if done < 1 or (seconds < MEASURED and done < total / 10):
            return
        self._is_done = True
        epoch = seconds / done * total
        if epoch > LIMIT:
            images = len(batch["image"]) * trainer.world_size * total
            fitting = max(1, int(images * LIMIT / epoch))
            warnings.warn(
                f"an epoch of {total} batches will take about {epoch / 60:.0f} minutes on this machine; "
                f"data.limit={fitting} would take ten, and a smaller network or image is faster",
                stacklevel=2,
            )
