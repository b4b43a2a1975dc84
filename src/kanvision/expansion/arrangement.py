"""Order of points, values and inputs in memory.

Shapes: R rows of L points, C channels, K functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from .define import is_per_channel

__all__ = ["Arrangement", "Placement", "find_placements", "lay_out"]

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


def find_placements(inputs: Sequence[Tensor], order: Arrangement) -> tuple[Placement, ...]:
    """Return the place of each input."""
    own: Placement = "point" if order.channels_inside else "row"
    return tuple([own if is_per_channel(values) else "shared" for values in inputs])


def lay_out(inputs: Sequence[Tensor], placements: Sequence[Placement]) -> list[Tensor]:
    """Return the inputs in float32, as generated loops and kernels read them."""
    return [
        (values.t() if place == "point" else values).to(torch.float32).contiguous()
        for values, place in zip(inputs, placements, strict=True)
    ]
