"""Callback that writes a row for every test image: its predicted class, or the counts of its mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from .csv_log import write_table
from .distributed import all_gather_object

__all__ = ["TestPredictions"]

CLASSES = ("target", "prediction")
COUNTS = ("hits", "false_alarms", "misses")


class TestPredictions(Callback):
    """Writes a row for every test image, in the order of the data set.

    A row has the number of the image, and target and predicted class; of a segmenter, the numbers of pixels
    that are hits, false alarms and misses, over all foreground classes. Tests of significance over images
    need them: docs/fair_comparison.md.

    Args:
        path: Path of the table (csv).
    """

    __test__ = False  # no test of pytest

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._rows: dict[int, tuple[int, ...]] = {}
        self._columns: tuple[str, ...] = CLASSES

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *_: Any, **__: Any
    ) -> None:
        """Keep the rows of a batch."""
        if outputs is None:  # no image of the batch can be read
            return
        measured = outputs["measured"]
        if "counts" in measured:  # (3, B, K)
            self._columns, columns = COUNTS, list(measured["counts"].sum(2))
        else:
            self._columns, columns = CLASSES, [measured["target"], measured["preds"].argmax(1)]
        rows = zip(*(column.tolist() for column in columns), strict=True)
        self._rows |= zip(batch["index"].tolist(), rows, strict=True)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Collect the rows of all processes, and write the table; a collective call."""
        rows = {image: row for part in all_gather_object(self._rows) for image, row in part.items()}
        self._rows = {}
        if trainer.is_global_zero:
            table = ((image, *rows[image]) for image in sorted(rows))
            write_table(self.path, ("image", *self._columns), table)
