"""Callback that writes the predicted class of every test image."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from .distributed import all_gather_object

__all__ = ["TestPredictions"]

COLUMNS = ("image", "target", "prediction")


class TestPredictions(Callback):
    """Writes target and predicted class of every test image of a classifier, in the order of the data set.

    Tests of significance over images need them: docs/background/fair-comparison.md.

    Args:
        path: Path of the table (csv) with the columns image, target and prediction.
    """

    __test__ = False  # no test of pytest

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._rows: dict[int, tuple[int, int]] = {}

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Mapping[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the classes of a batch."""
        if outputs is None:  # no image of the batch can be read
            return
        measured = outputs["measured"]
        found = measured["preds"].argmax(1).tolist()
        pairs = zip(measured["target"].tolist(), found, strict=True)
        self._rows |= zip(batch["index"].tolist(), pairs, strict=True)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Collect the classes of all processes, and write the table; a collective call."""
        rows = {image: row for part in all_gather_object(self._rows) for image, row in part.items()}
        self._rows = {}
        if not trainer.is_global_zero:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows((image, *rows[image]) for image in sorted(rows))
