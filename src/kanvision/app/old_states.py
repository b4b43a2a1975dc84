"""States of callbacks in checkpoints that older versions wrote."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from kanvision.config.renames import rename_record

__all__ = ["OldStateNames"]


class OldStateNames(Callback):
    """Callback that renames the states of the callbacks in a checkpoint; it comes before all others.

    Lightning finds the state of a callback by its class and, for the checkpoint of the best epoch, by its
    metric.
    """

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Replace old names of classes and metrics by today's."""
        checkpoint["callbacks"] = rename_record(checkpoint["callbacks"])
