"""Order of points, values and inputs in memory.

Shapes: R rows of L points, C channels, K functions.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from torch import Tensor

from .define import is_per_channel

__all__ = ["Arrangement", "Placement", "find_place"]

Placement: TypeAlias = Literal["shared", "row", "point"]
"""Scalars of an input are shared by all points, or belong to a row, or to a point of each row."""


class Arrangement(NamedTuple):
    """Order of points and values in memory.

    Args:
        rows: Number of rows, R.
        length: Points of a row, L; K L values follow each other for each row.
        functions: Number of functions, K.
        channels: Number of channels, C.
        channels_inside: True if the points of a row are the channels, L = C; False if row r is channel
            r mod C.
    """

    rows: int
    length: int
    functions: int
    channels: int
    channels_inside: bool


def find_place(values: Tensor, order: Arrangement, size: int) -> tuple[Placement, tuple[int, int]]:
    """Return the place of an input, and the shape of its gradient there."""
    if not is_per_channel(values):
        return "shared", (1, size)
    return ("point", (size, order.channels)) if order.channels_inside else ("row", (order.channels, size))
