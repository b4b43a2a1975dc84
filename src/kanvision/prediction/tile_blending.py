"""Prediction of a large image tile by tile, with blending of overlapping tiles.

B batch, C channels of the image, K planes of the prediction, H W space, T side of a tile, h rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .tiling import Tiling

__all__ = ["Predict", "Strip", "blend_tiles", "regroup_rows"]


class Strip(NamedTuple):
    """Rows of an image, or some of their columns."""

    values: NDArray[Any]
    """Stored values, (C, h, W)."""
    valid: NDArray[np.bool_]
    """Mask of pixels with data, (h, W)."""

    def crop_columns(self, start: int, stop: int) -> Strip:
        """Return the columns from `start` up to, not including, `stop`."""
        return Strip(self.values[:, :, start:stop], self.valid[:, start:stop])

    def pad_reflect(self, below: int, beside: int) -> Strip:
        """Return the rows padded by reflection below and to the right."""
        if not below and not beside:
            return self
        pad = ((0, below), (0, beside))
        return Strip(np.pad(self.values, ((0, 0), *pad), "reflect"), np.pad(self.valid, pad, "reflect"))


Predict = Callable[[Sequence[Strip]], Tensor]
"""Function from B tiles to their probabilities, (B, K, T, T)."""


def blend_tiles(
    read: Callable[[int, int], Strip],
    predict: Predict,
    num_planes: int,
    rows: Tiling,
    columns: Tiling,
    batch_size: int,
    advance: Callable[[int], object] = lambda count: None,
) -> Iterator[Strip]:
    """Yield the probabilities of an image of any size, from top to bottom.

    One row of tiles at a time is read and predicted. Rows that no later tile covers are yielded, and the
    others wait for the next row of tiles: memory grows with the width of the image, not with its height.
    Tiles without any data are skipped. An image smaller than a tile is padded by reflection.

    Args:
        read: Returns the rows from `top` up to, not including, `bottom`.
        predict: Predicts tiles.
        num_planes: Number of planes, K.
        rows: Tiles along the height.
        columns: Tiles along the width.
        batch_size: Number of tiles of a batch, B.
        advance: Called with the number of tiles that were finished.

    Yields:
        Next h rows, (K, h, W) float32.
    """
    tile, height, width = rows.tile, rows.length, columns.length
    beside = max(0, tile - width)
    row_weights, column_weights = (torch.from_numpy(axis.weights) for axis in (rows, columns))
    sums = torch.zeros(num_planes, tile, width + beside)  # from the row `top` on
    for weights, (top, following) in zip(row_weights, pairwise((*rows.starts, height)), strict=True):
        strip = read(top, min(top + tile, height))
        whole = strip.pad_reflect(tile - len(strip.valid), beside)
        parts = [
            (start, part, weights[:, None] * column)  # (T, T)
            for start, column in zip(columns.starts, column_weights, strict=True)
            if (part := whole.crop_columns(start, start + tile)).valid.any()
        ]
        advance(len(columns.starts) - len(parts))
        for first in range(0, len(parts), batch_size):
            batch = parts[first : first + batch_size]
            probabilities = predict([part for _, part, _ in batch])
            for (start, _, weight), planes in zip(batch, probabilities, strict=True):
                sums[:, :, start : start + tile] += planes * weight
            advance(len(batch))
        done = following - top
        # Weights sum to 1 up to rounding.
        yield Strip(sums[:, :done, :width].clamp(0, 1).numpy(), strip.valid[:done])
        sums = torch.cat([sums[:, done:], torch.zeros_like(sums[:, :done])], dim=1)


def regroup_rows(strips: Iterable[Strip], size: int) -> Iterator[Strip]:
    """Yield the rows of strips `size` at a time, and the remaining rows at the end.

    Files are written in blocks, and a block that is written twice is compressed and stored twice.
    """
    waiting: list[Strip] = []
    for strip in strips:
        waiting.append(strip)
        while (count := sum(len(part.valid) for part in waiting)) >= size:
            whole = _concatenate(waiting)
            yield Strip(whole.values[:, :size], whole.valid[:size])
            waiting = [Strip(whole.values[:, size:], whole.valid[size:])] if count > size else []
    if waiting:
        yield _concatenate(waiting)


def _concatenate(strips: Sequence[Strip]) -> Strip:
    values = np.concatenate([strip.values for strip in strips], axis=1)
    return Strip(values, np.concatenate([strip.valid for strip in strips]))
