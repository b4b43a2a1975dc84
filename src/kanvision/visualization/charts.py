"""Axes of charts in one style: small text, no lines at the top and at the right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

__all__ = ["new_chart", "split_lines"]

T = TypeVar("T")


def new_chart(
    width: float,
    height: float,
    rows: int = 1,
    columns: int = 1,
    *,
    labels: float = 8,
    ticks: float = 7,
    framed: bool = False,
    **options: Any,
) -> tuple[Figure, NDArray[np.object_]]:
    """Return a figure of a size in inches and its axes, (rows, columns).

    Args:
        width: Width.
        height: Height.
        rows: Number of rows of axes.
        columns: Number of columns of axes.
        labels: Font size of the names of the axes.
        ticks: Font size of the numbers.
        framed: Draw the lines at the top and at the right.
        **options: Options of `Figure.subplots`.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    grid: NDArray[np.object_] = figure.subplots(rows, columns, squeeze=False, **options)
    each: Any
    for each in grid.flat:
        each.tick_params(which="both", labelsize=ticks)
        each.spines[["top", "right"]].set_visible(framed)
        each.xaxis.label.set_fontsize(labels)
        each.yaxis.label.set_fontsize(labels)
    return figure, grid


def split_lines(rows: Iterable[tuple[str, Sequence[T]]], columns: int) -> list[tuple[str, Sequence[T]]]:
    """Return rows of at most `columns` panels with their titles; further lines of a row have none."""
    return [
        (title if not first else "", panels[first : first + columns])
        for title, panels in rows
        for first in range(0, max(1, len(panels)), columns)
    ]
