"""Random geometric transforms of a whole batch of bytes, with separate random numbers for each image.

On small images, calls for each image take longer than the arithmetic: these transforms are about ten times as
fast at 28 x 28.

B batch, C channels, H W space.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Flip", "PadCrop", "RandomAffine"]


class PadCrop:
    """Zero padding on all sides, followed by a random crop of the original size.

    Args:
        pad: Pixels of padding; shifts are uniform in -pad ... pad.
    """

    def __init__(self, pad: int) -> None:
        self.pad = pad

    def __call__(self, images: Tensor) -> Tensor:
        """Transform images, (B, C, H, W) uint8."""
        batch, channels, height, width = images.shape
        padded = F.pad(images, [self.pad] * 4)
        top, left = torch.randint(2 * self.pad + 1, (2, batch))
        rows = (top[:, None] + torch.arange(height))[:, None, :, None]  # (B, 1, H, 1)
        cols = (left[:, None] + torch.arange(width))[:, None, None, :]  # (B, 1, 1, W)
        which = torch.arange(batch)[:, None, None, None]
        return padded[which, torch.arange(channels)[:, None, None], rows, cols]


class Flip:
    """Random flip of images.

    Args:
        dim: -1: left and right; -2: top and bottom.
        prob: Probability for each image.
    """

    def __init__(self, dim: int, prob: float) -> None:
        self.dim = dim
        self.prob = prob

    def __call__(self, images: Tensor) -> Tensor:
        """Transform images, (B, C, H, W)."""
        chosen = torch.rand(len(images)) < self.prob
        flipped = images.clone()
        # torch.where over the batch takes ten times as long on large images, and equally long on small ones.
        for index in chosen.nonzero()[:, 0].tolist():
            flipped[index] = images[index].flip(self.dim)
        return flipped


class RandomAffine:
    """Random rotation, scaling and translation about the center, bilinear and black outside.

    Args:
        degrees: Rotation is uniform in -degrees ... degrees.
        translate: Each shift is uniform in -translate ... translate, as a fraction of the side.
        scale: Range of the scale (above 1: larger).
    """

    def __init__(
        self, degrees: float = 0.0, translate: float = 0.0, scale: Sequence[float] = (1.0, 1.0)
    ) -> None:
        self.degrees = degrees
        self.translate = translate
        self.scale = tuple(scale)

    def __call__(self, images: Tensor) -> Tensor:
        """Transform images, (B, C, H, W) uint8."""
        batch, _, height, width = images.shape
        turn, zoom, right, down = torch.rand(4, batch)
        angle = math.radians(self.degrees) * (2 * turn - 1)
        zoom = self.scale[0] + (self.scale[1] - self.scale[0]) * zoom
        # The unit of grid_sample is half a side, and its map goes from output to input.
        right, down = (2 * self.translate * (2 * shift - 1) for shift in (right, down))
        cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
        aspect = height / width
        # Input position of output (x, y): shift back, rotate by -angle and divide by the scale.
        rows = torch.stack(
            [
                torch.stack([cos, sin * aspect, -cos * right - sin * aspect * down], dim=-1),
                torch.stack([-sin / aspect, cos, sin / aspect * right - cos * down], dim=-1),
            ],
            dim=1,
        )  # (B, 2, 3)
        grid = F.affine_grid(rows, list(images.shape), align_corners=False)  # (B, H, W, 2)
        moved = F.grid_sample(
            images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False
        )
        return moved.add_(0.5).to(torch.uint8)
