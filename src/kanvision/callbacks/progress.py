"""Progress bar at a terminal, and lines in a log file."""

from __future__ import annotations

import time

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar
from pytorch_lightning.callbacks.progress.progress_bar import get_standard_metrics
from rich import get_console

__all__ = ["ProgressBar"]


class ProgressBar(RichProgressBar):
    """Progress bar per stage at a terminal; elsewhere one line per epoch, as for log files.

    Args:
        refresh_rate: Number of redraws per second.
    """

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
