"""Order of points, values and inputs in memory.

Shapes: R rows of L points, C channels, K functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

from torch import Tensor

from .define import Definition, is_per_channel

__all__ = ["Arrangement", "Placement", "find_place", "find_placements", "lay_out"]

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


def find_placements(
    definition: Definition, inputs: Sequence[Tensor], order: Arrangement
) -> tuple[Placement, ...]:
    """Return the place of each input."""
    sizes = definition.all_sizes
    return tuple(find_place(values, order, size)[0] for values, size in zip(inputs, sizes, strict=True))


def lay_out(inputs: Sequence[Tensor], placements: Sequence[Placement]) -> list[Tensor]:
    """Return the inputs in float32, as generated loops and kernels read them."""
    exact = [values.detach().float() for values in inputs]
    return [
        (values.t() if place == "point" else values).contiguous()
        for values, place in zip(exact, placements, strict=True)
    ]
