"""What an analysis has found, as files: pictures as PNG and SVG, tables as csv, arrays as npz."""

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
    """A figure with its explanation."""

    name: str
    """Of the files, without an ending."""
    figure: Figure
    caption: str
    """What is drawn: axes, colors, lines."""


@dataclass(frozen=True)
class ResultTable:
    """Rows of numbers and texts."""

    name: str
    """Of the file, without an ending."""
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""
    num_shown: int = 20
    """Rows that the page shows, 0 for none; the file has all."""


@dataclass(frozen=True)
class AnalysisResult:
    """What an analysis tells people."""

    sentences: Sequence[str]
    """What was found, each with its numbers."""
    limits: Sequence[str] = ()
    """What the pictures do not show."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """Numbers by name, for programs."""
    pictures: Sequence[Picture] = ()
    tables: Sequence[ResultTable] = ()
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Raw data that is no table."""

    def write(self, folder: Path) -> None:
        """Write pictures, tables and arrays (`data.npz`); the same findings give the same files."""
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
    """Write a table as csv, numbers with seven digits."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(table.columns)
        writer.writerows([cell_text(cell, digits=7) for cell in row] for row in table.rows)


def cell_text(cell: object, digits: int) -> str:
    """A cell of a table as text; nothing for None."""
    if cell is None:
        return ""
    is_float = isinstance(cell, float | np.floating)
    return f"{cell:.{digits}g}" if is_float else str(cell)
