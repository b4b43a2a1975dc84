"""Results of an analysis and their files: pictures as PNG and SVG, tables as CSV, arrays as NPZ."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

__all__ = ["AnalysisResult", "Picture", "ResultTable"]

DPI = 120


@dataclass(frozen=True)
class Picture:
    """Figure with a caption."""

    name: str
    """Name of the files, without a suffix."""
    figure: Figure
    caption: str
    """Meaning of axes, colors and lines."""


@dataclass(frozen=True)
class ResultTable:
    """Table of numbers and texts."""

    name: str
    """Name of the file, without a suffix."""
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""
    num_shown: int = 20
    """Number of rows on the page, 0 for no table; the file has all rows."""


@dataclass(frozen=True)
class AnalysisResult:
    """Result of an analysis."""

    sentences: Sequence[str]
    """Statements with their numbers."""
    limits: Sequence[str] = ()
    """Limits of the interpretation."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """Numbers by name, for other programs."""
    pictures: Sequence[Picture] = ()
    tables: Sequence[ResultTable] = ()
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Raw data in other forms than tables."""

    def write(self, folder: Path) -> None:
        """Write pictures, tables and arrays (`data.npz`); equal results give equal files."""
        folder.mkdir(parents=True, exist_ok=True)
        for picture in self.pictures:
            save_figure(picture.figure, folder / picture.name)
        for table in self.tables:
            write_table(table, folder / f"{table.name}.csv")
        if self.arrays:
            np.savez_compressed(folder / "data.npz", **dict(self.arrays))  # type: ignore[arg-type]


def save_figure(figure: Figure, stem: Path) -> None:
    """Write a figure as `<stem>.png` and `<stem>.svg`."""
    figure.savefig(stem.with_name(f"{stem.name}.png"), dpi=DPI)
    with rc_context({"svg.hashsalt": stem.name}):
        figure.savefig(stem.with_name(f"{stem.name}.svg"), metadata={"Date": None})


def write_table(table: ResultTable, path: Path) -> None:
    """Write a table as CSV, with seven digits of each number."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(table.columns)
        writer.writerows([cell_text(cell, digits=7) for cell in row] for row in table.rows)


def cell_text(cell: object, digits: int) -> str:
    """Return the text of a cell of a table; empty for None."""
    if cell is None:
        return ""
    is_float = isinstance(cell, float | np.floating)
    return f"{cell:.{digits}g}" if is_float else str(cell)
