"""Positions and weights of tiles along one side of an image.

T side of a tile, n tiles along a side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Tiling"]


@dataclass(frozen=True)
class Tiling:
    """Tiles along one side of an image, evenly spaced from its first to its last pixel.

    Neighbors share at least `overlap` pixels. The weight of a tile falls towards its ends as sin^2(pi d / (2
    overlap)), d being the distance of the center of a pixel from the end, and is divided by the sum over all
    tiles, so that the weights of a pixel sum to 1. The weight of a pixel of the image is the product of those
    of its row and its column, which sums to 1 as well, so that blending needs no second plane of weights.

    An image shorter than a tile has one tile, which extends beyond its end.

    Args:
        length: Number of pixels of the image.
        tile: Side of a tile, T.
        overlap: Least number of pixels that neighbors share.

    Raises:
        ValueError: If the overlap is not below the side of a tile, or the image is empty.
    """

    length: int
    tile: int
    overlap: int

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.tile:
            raise ValueError(
                f"overlap={self.overlap}: tiles of {self.tile} pixels can share 0 to {self.tile - 1}"
            )
        if self.length < 1:
            raise ValueError(f"an image of {self.length} pixels has nothing to predict")

    @property
    def starts(self) -> tuple[int, ...]:
        """First pixel of each tile, (n,)."""
        free = max(0, self.length - self.tile)
        steps = math.ceil(free / (self.tile - self.overlap))
        return tuple((2 * i * free + steps) // (2 * steps) if steps else 0 for i in range(steps + 1))

    @property
    def weights(self) -> NDArray[np.float32]:
        """Weight of each pixel of each tile, (n, T); the weights of a pixel of the image sum to 1."""
        centers = np.arange(self.tile) + 0.5
        near = np.minimum(centers, self.tile - centers)
        # Without an overlap all weights are 1, because the first center is half a pixel from the end.
        ramp = np.sin(np.pi / 2 * np.minimum(1, near / max(self.overlap, 0.5))) ** 2
        total = np.zeros(max(self.length, self.tile))
        for start in self.starts:
            total[start : start + self.tile] += ramp
        weights = np.stack([ramp / total[start : start + self.tile] for start in self.starts])
        return weights.astype(np.float32)
