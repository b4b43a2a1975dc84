"""Early stopping that resumes exactly."""

from __future__ import annotations

import pytorch_lightning as pl
from pytorch_lightning import callbacks

__all__ = ["EarlyStopping"]


class EarlyStopping(callbacks.EarlyStopping):
    """Ends training when the monitored metric has not improved for some validations.

    A run that had decided to stop, and was killed before its test, stops at once when it is resumed.
    Lightning's callback would train one more epoch.

    Args:
        monitor: Metric of validation.
        mode: min or max, the direction in which it improves.
        patience: Number of validations without an improvement after which training ends.
        min_delta: Smallest change that counts as an improvement.
    """

    def __init__(self, monitor: str, mode: str = "max", patience: int = 10, min_delta: float = 0.0) -> None:
        super().__init__(monitor, min_delta, patience, mode=mode, check_on_train_epoch_end=False)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop a resumed run that had decided to stop."""
        super().on_train_start(trainer, pl_module)
        if self.wait_count >= self.patience:
            trainer.should_stop = True
