"""Images and labels brought to another size; pixel centres of both stay together.

C channels, L label planes, H W space, S side.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["resize_image", "resize_labels"]

MODES = {"nearest": "nearest-exact", "bilinear": "bilinear", "bicubic": "bicubic"}


def resize_image(image: Tensor, size: tuple[int, int], interpolation: str = "bilinear") -> Tensor:
    """Interpolate, without a low-pass filter before, as OpenCV and so the published pipelines do.

    Args:
        image: (C, H, W) float32.
        size: Height and width that are wanted.
        interpolation: nearest, bilinear or bicubic.

    Returns:
        (C, *size).
    """
    if image.shape[-2:] == size:
        return image
    corners = None if interpolation == "nearest" else False
    return F.interpolate(image[None], size, mode=MODES[interpolation], align_corners=corners)[0]


def resize_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Take for each new pixel the label at its centre.

    OpenCV's and torch's `nearest` take the label up to half a pixel beside it, so that mirrored masks would
    differ from masks of mirrored images.

    Args:
        labels: (L, H, W) of any type.
        size: Height and width that are wanted.

    Returns:
        (L, *size).
    """
    if labels.shape[-2:] == size:
        return labels
    rows, cols = (_centres(old, new) for old, new in zip(labels.shape[-2:], size, strict=True))
    return labels[:, rows[:, None], cols]


def _centres(old: int, new: int) -> Tensor:
    """floor((i + 1/2) old / new) for i = 0 ... new - 1, in whole numbers."""
    return (2 * torch.arange(new) + 1) * old // (2 * new)
