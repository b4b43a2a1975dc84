"""Tables of a run as csv: its log, and a writer that leaves no half of a file."""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities import rank_zero_only

__all__ = ["CSVLog", "write_table"]


class CSVLog(CSVLogger):
    """Lightning's csv logger, but a resumed run appends to the file, which Lightning's own logger deletes."""

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """Writer, which starts with the rows of an existing file."""
        if self._experiment is None:
            rows = _read_rows(Path(self.log_dir) / "metrics.csv")
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Experiment logs directory .* is not empty")
                writer: Any = super().experiment
            writer.metrics = rows
            writer.save()
        return super().experiment

    @rank_zero_only
    def drop_rows(self, first_step: int) -> None:
        """Delete the rows of `first_step` and later steps, which a resumed run writes again."""
        self.experiment.save()
        path = Path(self.log_dir) / "metrics.csv"
        rows = _read_rows(path)
        # a kill may have cut off the last row
        kept = [row for row in rows if str(row.get("step")).isdigit() and int(row["step"]) < first_step]
        if len(kept) < len(rows):
            columns = [key for key in rows[0] if key]
            write_table(path, columns, ([row.get(key) for key in columns] for row in kept))


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table as csv in one step, so that a kill leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with part.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    os.replace(part, path)


def _read_rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
