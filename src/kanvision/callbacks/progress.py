"""Progress bar at a terminal, lines in a log file, and an estimate of the time of a long epoch."""

from __future__ import annotations

import time
import warnings
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, RichProgressBar
from pytorch_lightning.callbacks.progress.progress_bar import get_standard_metrics
from rich import get_console

__all__ = ["EpochEstimate", "ProgressBar"]

LIMIT = 600.0
"""Seconds of an epoch above which a note is printed."""
MEASURED = 20.0
"""Seconds of batches that an estimate needs, or a tenth of the epoch if that is less."""
WARM_UP = 2
"""Batches before the measurement, which start loaders and compile."""


class ProgressBar(RichProgressBar):
    """Progress bar per stage at a terminal, with redraws per second; elsewhere one line per epoch."""

    def __init__(self, refresh_rate: int = 4) -> None:
        super().__init__(refresh_rate=refresh_rate)
        self._writes_lines = False
        self._epoch_start = 0.0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Choose between bar and lines, on rank 0."""
        super().setup(trainer, pl_module, stage)
        self._writes_lines = trainer.is_global_zero and not get_console().is_terminal
        if self._writes_lines:
            self.disable()

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return the logged metrics without the version number."""
        metrics = super().get_metrics(trainer, pl_module)
        return {key: value for key, value in metrics.items() if key not in get_standard_metrics(trainer)}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock of a resumed epoch."""
        super().on_train_start(trainer, pl_module)
        self._epoch_start = time.perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock of the epoch."""
        super().on_train_epoch_start(trainer, pl_module)
        self._epoch_start = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the line of the epoch."""
        super().on_train_epoch_end(trainer, pl_module)
        if self._writes_lines:
            seconds = time.perf_counter() - self._epoch_start
            metrics = "  ".join(
                f"{k} {v:.4g}"
                for k, v in self.get_metrics(trainer, pl_module).items()
                if isinstance(v, float)
            )
            print(
                f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {seconds:.1f} s  {metrics}",
                flush=True,
            )


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
