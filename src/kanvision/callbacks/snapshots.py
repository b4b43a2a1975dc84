"""Callback that keeps the weights of many epochs, for analyses of training."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

__all__ = ["WeightSnapshots"]


class WeightSnapshots(Callback):
    """Writes `epoch_<n>.ckpt` after n epochs, from n = 0 on, and keeps all of them.

    The files hold weights and configuration without the optimizer's state: `eval.py` reads them, and no run
    can resume from them.

    Args:
        dirpath: Folder of the checkpoints.
        every_n_epochs: Number of epochs between two of them; the last epoch is always written.

    Raises:
        ValueError: If every_n_epochs is below 1.
    """

    def __init__(self, dirpath: str | Path, every_n_epochs: int = 1) -> None:
        if every_n_epochs < 1:
            raise ValueError(f"callbacks.snapshots.every_n_epochs={every_n_epochs} must be at least 1")
        self.dirpath = Path(dirpath)
        self.every_n_epochs = every_n_epochs

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the initial weights, but not those of a resumed run."""
        if trainer.global_step == 0:
            self._save(trainer, 0)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the weights every `every_n_epochs` epochs and after the last one."""
        num_epochs = trainer.current_epoch + 1
        if num_epochs % self.every_n_epochs == 0 or num_epochs == trainer.max_epochs:
            self._save(trainer, num_epochs)

    def _save(self, trainer: pl.Trainer, num_epochs: int) -> None:
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(self.dirpath / f"epoch_{num_epochs:03d}.ckpt", weights_only=True)
