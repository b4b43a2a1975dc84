"""The weights of a run over its epochs, for pictures of how it got where it is."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

__all__ = ["WeightSnapshots"]


class WeightSnapshots(Callback):
    """Writes `epoch_<n>.ckpt` after n epochs, the first before the first step, and keeps them all.

    They hold the weights and the run's configuration, without the optimizer: `eval.py` reads them, and no
    run goes on from them.

    Args:
        dirpath: Folder of the checkpoints.
        every_n_epochs: Epochs between two of them; the last epoch's is always written.

    Raises:
        ValueError: If every_n_epochs is below 1.
    """

    def __init__(self, dirpath: str | Path, every_n_epochs: int = 1) -> None:
        if every_n_epochs < 1:
            raise ValueError(f"callbacks.snapshots.every_n_epochs={every_n_epochs} must be at least 1")
        self.dirpath = Path(dirpath)
        self.every_n_epochs = every_n_epochs

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the weights that training starts from, but not those that a run is resumed with."""
        if trainer.global_step == 0:
            self._save(trainer, 0)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the weights of an epoch whose turn it is."""
        done = trainer.current_epoch + 1
        if done % self.every_n_epochs == 0 or done == trainer.max_epochs:
            self._save(trainer, done)

    def _save(self, trainer: pl.Trainer, done: int) -> None:
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(self.dirpath / f"epoch_{done:03d}.ckpt", weights_only=True)
