"""Resizing of images and labels, with aligned pixel centers or as in OpenCV.

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
    """Resize an image without a low-pass filter, as OpenCV and thus the published pipelines do.

    Args:
        image: Image, (C, H, W) float32.
        size: Height and width of the result.
        interpolation: nearest, bilinear or bicubic.

    Returns:
        Image, (C, *size).
    """
    if image.shape[-2:] == size:
        return image
    corners = None if interpolation == "nearest" else False
    return F.interpolate(image[None], size, mode=MODES[interpolation], align_corners=corners)[0]


def resize_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize labels by taking the label at the center of each new pixel.

    The `nearest` of OpenCV and torch takes a label up to half a pixel beside the center
    (`resize_labels_as_opencv`), so that mirrored masks would differ from masks of mirrored images.

    Args:
        labels: Labels, (L, H, W) of any type.
        size: Height and width of the result.

    Returns:
        Labels, (L, *size).
    """
    if labels.shape[-2:] == size:
        return labels
    rows, cols = (_centers(old, new) for old, new in zip(labels.shape[-2:], size, strict=True))
    return labels[:, rows[:, None], cols]


def _centers(old: int, new: int) -> Tensor:
    """Return floor((i + 1/2) old / new) for i = 0 ... new - 1, in whole numbers."""
    return (2 * torch.arange(new) + 1) * old // (2 * new)


def resize_image_as_opencv(
    image: Tensor, size: tuple[int, int], interpolation: Interpolation = "bilinear"
) -> Tensor:
    """Resize an image by OpenCV in 8 bits, as pipelines do that read images by `cv2.imread`.

    Args:
        image: Image, (C, H, W) float32 in units of [0, 1], which is rounded to 8 bits.
        size: Height and width of the result.
        interpolation: nearest, bilinear or bicubic.

    Returns:
        Image, (C, *size), in multiples of 1 / 255.
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
    """Resize labels as OpenCV does by INTER_NEAREST, up to half an old pixel off the pixel centers.

    Args:
        labels: Labels, (L, H, W) of any type.
        size: Height and width of the result.

    Returns:
        Labels, (L, *size).
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

    # There is a loader process for each core already, so that threads would compete.
    cv2.setNumThreads(0)
    return cv2
