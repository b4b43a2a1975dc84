"""Where tiles lie along one side of an image, and how much each of them says there.

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
    """Tiles along one side of an image, evenly spread: the first begins with it, the last ends with it.

    Neighbors share at least `overlap` pixels. The weight of a tile falls towards its ends as
    sin^2(pi d / (2 overlap)), d being the distance of a pixel's center from the end, and is divided by the
    sum over all tiles there, so that the weights of a pixel sum to 1. The weight of a pixel of the image is
    the product of those of its row and of its column, which sums to 1 as well: what is blended needs no
    second plane that counts weights.

    An image shorter than a tile has one tile, which sticks out at the end.

    Args:
        length: Pixels of the image.
        tile: T.
        overlap: Least number of pixels that neighbors share.

    Raises:
        ValueError: If tiles would not get on, or there is nothing to cut.
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
        """First pixel of each tile."""
        free = max(0, self.length - self.tile)
        steps = math.ceil(free / (self.tile - self.overlap))
        return tuple((2 * i * free + steps) // (2 * steps) if steps else 0 for i in range(steps + 1))

    @property
    def weights(self) -> NDArray[np.float32]:
        """(n, T) weight of each pixel of each tile; those of one pixel of the image sum to 1."""
        centers = np.arange(self.tile) + 0.5
        near = np.minimum(centers, self.tile - centers)
        # Without an overlap all are 1: half a pixel from the end is far enough.
        ramp = np.sin(np.pi / 2 * np.minimum(1, near / max(self.overlap, 0.5))) ** 2
        total = np.zeros(max(self.length, self.tile))
        for start in self.starts:
            total[start : start + self.tile] += ramp
        weights = np.stack([ramp / total[start : start + self.tile] for start in self.starts])
        return weights.astype(np.float32)
