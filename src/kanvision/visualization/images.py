"""Conversion of images and masks to RGB images.

N images, C channels, K classes, H W space.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["PALETTE", "overlay_mask", "to_uint8_rgb"]

Pixels = NDArray[np.uint8]

PALETTE: Pixels = np.round(255 * np.array(colormaps["tab10"].colors)).astype(np.uint8)  # type: ignore[attr-defined]
"""Colors of the classes 1, 2, ...; they repeat after ten classes."""


def to_uint8_rgb(
    images: Tensor,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    rgb: Sequence[int] | None = None,
    stretch: bool | None = None,
) -> Pixels:
    """Undo the normalization of images and convert them to RGB: one channel as gray, or three channels.

    The values of images with more than three channels have no known range. Each such image is stretched
    between its 2nd and 98th percentile, over all three channels.

    Args:
        images: Images, (N, C, H, W).
        mean: Mean of each channel, or None if images are not normalized.
        std: Standard deviation of each channel, or None.
        rgb: Channels for red, green and blue; the first three if None or empty.
        stretch: Stretch the values; None to stretch images with more than three channels.

    Returns:
        RGB images, uint8 (N, H, W, 3).
    """
    if mean is not None and std is not None:
        shape = (1, -1, 1, 1)
        images = images * torch.tensor(std).view(shape) + torch.tensor(mean).view(shape)
    num_channels = images.shape[1]
    chosen = list(rgb or ((0, 1, 2) if num_channels >= 3 else (0, 0, 0)))
    images = images[:, chosen].nan_to_num(0.0)
    if num_channels > 3 if stretch is None else stretch:
        limits = [np.percentile(image.numpy(), (2, 98)) for image in images]
        low, high = torch.tensor(np.array(limits), dtype=images.dtype).T[
            :, :, None, None, None
        ]  # (N, 1, 1, 1)
        images = (images - low) / (high - low).clamp(min=1e-6)
    pixels = images.clamp(0, 1).mul(255).round().byte()
    array: Pixels = pixels.permute(0, 2, 3, 1).numpy()  # (N, H, W, 3)
    return array


def overlay_mask(image: Pixels, mask: NDArray[Any], palette: Pixels = PALETTE) -> Pixels:
    """Return an image (H, W, 3) mixed half and half with the color of its class, or the mean of several.

    A mask has classes, (H, W), with 0 and negative numbers transparent, or a plane for each class, (K, H, W).
    The palette of the classes 1, 2, ..., (K, 3), repeats.
    """
    if mask.ndim == 2:
        colors, is_there = palette[(mask.astype(np.int64) - 1) % len(palette)].astype(np.float32), mask > 0
    else:
        weights = (mask > 0).astype(np.float32)  # (K, H, W)
        total = weights.sum(axis=0)
        own = palette[np.arange(len(mask)) % len(palette)].astype(np.float32)  # (K, 3)
        colors = np.einsum("khw,kc->hwc", weights, own) / np.maximum(total, 1)[..., None]
        is_there = total > 0
    mixed: Pixels = np.where(is_there[..., None], (image + colors) / 2, image).astype(np.uint8)
    return mixed
