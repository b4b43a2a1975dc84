"""How far a saliency map agrees with what people marked: the mask of an object, and its border.

B batch, H W space.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Overlap", "Threshold", "border_band", "concentration", "otsu", "overlap", "selected"]

Threshold = Literal["otsu"] | float
"""Otsu's threshold of each map, or the share of pixels to take, above 0 and at most 1."""
BINS = 256


class Overlap(NamedTuple):
    """Agreement of two sets of pixels, fractions (B,); 0 where just one is empty, NaN where both are."""

    iou: Tensor
    """TP / (TP + FP + FN)."""
    precision: Tensor
    """TP / (TP + FP)."""
    recall: Tensor
    """TP / (TP + FN)."""
    f1: Tensor
    """2 TP / (2 TP + FP + FN)."""


def otsu(maps: Tensor) -> Tensor:
    """The threshold that parts the values of each map best.

    Otsu 1979, "A Threshold Selection Method from Gray-Level Histograms": of 256 equal steps between the
    smallest and the largest value, the one with the largest variance between the two classes,
    w_0 w_1 (m_0 - m_1)^2; values above it are foreground. Where several are as good, the first one.

    Args:
        maps: (B, H, W), finite.

    Returns:
        (B,); the value itself where a map has only one.
    """
    values = maps.flatten(1).double()
    low, high = values.amin(dim=1, keepdim=True), values.amax(dim=1, keepdim=True)
    width = (high - low) / BINS
    bins = ((values - low) / width.where(width > 0, 1.0)).long().clamp(max=BINS - 1)  # (B, H*W)
    counts = torch.zeros(len(values), BINS, dtype=torch.double, device=maps.device)
    counts.scatter_add_(1, bins, torch.ones_like(values))
    levels = torch.arange(BINS, dtype=torch.double, device=maps.device)
    below, mass = counts.cumsum(dim=1), (counts * levels).cumsum(dim=1)
    total, whole = below[:, -1:], mass[:, -1:]
    # w_0 w_1 (m_0 - m_1)^2 = (whole w_0 - mass)^2 / (w_0 w_1), times constants
    between = (whole * below - mass * total).square() / (below * (total - below)).clamp(min=1)
    best = between.argmax(dim=1, keepdim=True)
    edge = low + (best + 1) * width
    return edge.where(high > low, high)[:, 0].to(maps.dtype)


def selected(maps: Tensor, threshold: Threshold = "otsu") -> Tensor:
    """The pixels that a saliency map stands for.

    Args:
        maps: (B, H, W), not negative.
        threshold: How they are found. Of equal values, those that a fixed shuffle puts first are taken.

    Returns:
        bool (B, H, W). With Otsu's threshold, nothing where a map is the same everywhere.
    """
    if threshold == "otsu":
        return maps > otsu(maps)[:, None, None]
    number = maps[0].numel()
    return ranks(maps) < round(float(threshold) * number)


def ranks(maps: Tensor) -> Tensor:
    """Place of each pixel, counted from 0, when the largest come first; equal ones as a fixed shuffle says.

    Args:
        maps: (B, H, W).

    Returns:
        int64 (B, H, W).
    """
    number = maps[0].numel()
    shuffle = torch.randperm(number, generator=torch.Generator().manual_seed(0)).to(maps.device)
    order = shuffle[maps.flatten(1)[:, shuffle].argsort(dim=1, descending=True, stable=True)]  # (B, H*W)
    found = torch.empty_like(order)
    found.scatter_(1, order, torch.arange(number, device=maps.device).expand_as(order))
    return found.reshape(maps.shape)


def overlap(found: Tensor, truth: Tensor) -> Overlap:
    """Agreement of found and right pixels.

    Args:
        found: bool (B, H, W).
        truth: bool (B, H, W).
    """
    found, truth = found.flatten(1), truth.flatten(1)
    hits, taken, right = ((found & truth).sum(dim=1), found.sum(dim=1), truth.sum(dim=1))
    nothing = (taken + right) == 0

    def fraction(above: Tensor, below: Tensor) -> Tensor:
        return (above / below.clamp(min=1)).masked_fill(nothing, torch.nan)

    return Overlap(
        iou=fraction(hits, taken + right - hits),
        precision=fraction(hits, taken),
        recall=fraction(hits, right),
        f1=fraction(2 * hits, taken + right),
    )


def border_band(mask: Tensor, width: int = 2) -> Tensor:
    """Pixels on both sides of a mask's edge: dilated mask without eroded mask.

    Args:
        mask: bool (B, H, W).
        width: Pixels on each side, counted along rows, columns and diagonals alike (Chebyshev distance). The
            frame of the image is no edge.

    Returns:
        bool (B, H, W).
    """
    side = 2 * width + 1
    dilated, kept = (
        F.max_pool2d(plane.float()[:, None], side, stride=1, padding=width)[:, 0] > 0
        for plane in (mask, ~mask)
    )
    return dilated & kept


def concentration(maps: Tensor, region: Tensor) -> Tensor:
    """How much denser a map is in a region than on the whole image.

    (share of the map's sum that lies in the region) / (share of the pixels that do): 1 for a map that knows
    nothing of the region; needs no threshold.

    Args:
        maps: (B, H, W), not negative.
        region: bool (B, H, W).

    Returns:
        (B,); NaN where the region is empty or the map is 0 everywhere.
    """
    maps = maps.double()
    inside, whole = (maps * region).sum(dim=(1, 2)), maps.sum(dim=(1, 2))
    return (inside / whole) / region.double().mean(dim=(1, 2))
