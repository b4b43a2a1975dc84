"""Resizing of images and labels: our own, which keeps their pixel centers together, and OpenCV's.

C channels, L label planes, H W space, S side.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kanvision.spec.data import Interpolation

__all__ = ["resize_image", "resize_image_as_opencv", "resize_labels", "resize_labels_as_opencv"]

MODES: dict[Interpolation, str] = {"nearest": "nearest-exact", "bilinear": "bilinear", "bicubic": "bicubic"}


def resize_image(image: Tensor, size: tuple[int, int], interpolation: Interpolation = "bilinear") -> Tensor:
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
    """Take for each new pixel the label at its center.

    OpenCV's and torch's `nearest` take the label up to half a pixel beside it (`resize_labels_as_opencv`),
    so that mirrored masks would differ from masks of mirrored images.

    Args:
        labels: (L, H, W) of any type.
        size: Height and width that are wanted.

    Returns:
        (L, *size).
    """
    if labels.shape[-2:] == size:
        return labels
    rows, cols = (_centers(old, new) for old, new in zip(labels.shape[-2:], size, strict=True))
    return labels[:, rows[:, None], cols]


def _centers(old: int, new: int) -> Tensor:
    """floor((i + 1/2) old / new) for i = 0 ... new - 1, in whole numbers."""
    return (2 * torch.arange(new) + 1) * old // (2 * new)


def resize_image_as_opencv(
    image: Tensor, size: tuple[int, int], interpolation: Interpolation = "bilinear"
) -> Tensor:
    """Interpolate by OpenCV itself, in 8 bits, as pipelines do that read images by `cv2.imread`.

    Args:
        image: (C, H, W) float32 in units of [0, 1]; rounded to 8 bits.
        size: Height and width that are wanted.
        interpolation: nearest, bilinear or bicubic.

    Returns:
        (C, *size), whole multiples of 1 / 255.
    """
    library = _opencv()
    modes: dict[Interpolation, int] = {
        "nearest": library.INTER_NEAREST,
        "bilinear": library.INTER_LINEAR,
        "bicubic": library.INTER_CUBIC,
    }
    pixels = image.mul(255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    resized = library.resize(np.ascontiguousarray(pixels), size[::-1], interpolation=modes[interpolation])
    return torch.from_numpy(resized.reshape(*size, -1)).permute(2, 0, 1).float().div(255)


def resize_labels_as_opencv(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Take the labels that OpenCV's INTER_NEAREST takes, which lie up to half an old pixel off the centers.

    Args:
        labels: (L, H, W) of any type.
        size: Height and width that are wanted.

    Returns:
        (L, *size).
    """
    rows, cols = (_corners(old, new) for old, new in zip(labels.shape[-2:], size, strict=True))
    return labels[:, rows[:, None], cols]


def _corners(old: int, new: int) -> Tensor:
    """Return floor(i scale) for i = 0 ... new - 1, with OpenCV's scale, the inverse of a rounded quotient."""
    scale = 1 / (new / old)
    return (torch.arange(new, dtype=torch.float64) * scale).floor().long().clamp(max=old - 1)


@cache
def _opencv() -> Any:
    import cv2

    # Loader processes are as many as there are cores already; threads of each would get in each other's way.
    cv2.setNumThreads(0)
    return cv2
