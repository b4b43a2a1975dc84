"""The csv log of a run."""

from __future__ import annotations

import csv
import os
import warnings
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities import rank_zero_only

__all__ = ["CSVLog"]


class CSVLog(CSVLogger):
    """Lightning's csv logger, which a resumed run goes on with; Lightning's own deletes the file then.

    Args:
        save_dir: Folder of the run.
        name: As for Lightning's.
        version: As for Lightning's.
    """

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer, started with the rows that are there."""
        if self._experiment is None:
            rows = _rows(Path(self.log_dir) / "metrics.csv")
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Experiment logs directory .* is not empty")
                writer: Any = super().experiment
            writer.metrics = rows
            writer.save()
        return super().experiment

    @rank_zero_only
    def forget_from(self, step: int) -> None:
        """Forget the rows of this step and later ones: a run that goes on from there writes them again."""
        self.experiment.save()
        path = Path(self.log_dir) / "metrics.csv"
        rows = _rows(path)
        # a kill may have cut off the last row
        kept = [row for row in rows if str(row.get("step")).isdigit() and int(row["step"]) < step]
        if len(kept) < len(rows):
            part = path.with_suffix(".part")
            with part.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, [key for key in rows[0] if key], extrasaction="ignore")
                writer.writeheader()
                writer.writerows(kept)
            os.replace(part, path)


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
