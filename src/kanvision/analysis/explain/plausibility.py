"""Plausibility of a saliency map: agreement with the mask of an object and with its border.

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
    """Agreement of two sets of pixels, fractions (B,); 0 if one of them is empty, NaN if both are."""

    iou: Tensor
    """TP / (TP + FP + FN)."""
    precision: Tensor
    """TP / (TP + FP)."""
    recall: Tensor
    """TP / (TP + FN)."""
    f1: Tensor
    """2 TP / (2 TP + FP + FN)."""


def otsu(maps: Tensor) -> Tensor:
    """Return the threshold of Otsu for each finite map (B, H, W): (B,), the value itself for a constant map.

    Otsu 1979, "A Threshold Selection Method from Gray-Level Histograms": of 256 equal steps between the
    smallest and the largest value, the one with the largest variance between the two classes,
    w_0 w_1 (m_0 - m_1)^2; values above it are foreground. Of equal variances, the first step counts.
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
    """Return the salient pixels of maps that are not negative, bool (B, H, W).

    Ties at a share are broken by a fixed shuffle; Otsu's threshold selects none of a constant map.
    """
    if threshold == "otsu":
        return maps > otsu(maps)[:, None, None]
    number = maps[0].numel()
    return ranks(maps) < round(float(threshold) * number)


def ranks(maps: Tensor) -> Tensor:
    """Return the rank of each pixel of maps (B, H, W) in descending order, from 0, int64 (B, H, W).

    Ties are broken by a fixed shuffle.
    """
    number = maps[0].numel()
    shuffle = torch.randperm(number, generator=torch.Generator().manual_seed(0)).to(maps.device)
    order = shuffle[maps.flatten(1)[:, shuffle].argsort(dim=1, descending=True, stable=True)]  # (B, H*W)
    found = torch.empty_like(order)
    found.scatter_(1, order, torch.arange(number, device=maps.device).expand_as(order))
    return found.reshape(maps.shape)


def overlap(found: Tensor, truth: Tensor) -> Overlap:
    """Return the agreement of predicted and target pixels, bool (B, H, W) each."""
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
    """Return the pixels on both sides of the edge of masks, bool (B, H, W): dilated without eroded mask.

    The band has `width` pixels on each side (Chebyshev distance). The frame of the image is not an edge.
    """
    side = 2 * width + 1
    dilated, kept = (
        F.max_pool2d(plane.float()[:, None], side, stride=1, padding=width)[:, 0] > 0
        for plane in (mask, ~mask)
    )
    return dilated & kept


def concentration(maps: Tensor, region: Tensor) -> Tensor:
    """Return the density of a map in a region divided by its density on the whole image, (B,).

    Concentration is (share of the sum of the map in the region) / (share of the pixels in the region): 1 for
    a map that is independent of the region, NaN if the region is empty or the map is 0 everywhere. It has no
    threshold. Maps (B, H, W) are not negative, regions bool (B, H, W).
    """
    maps = maps.double()
    inside, whole = (maps * region).sum(dim=(1, 2)), maps.sum(dim=(1, 2))
    return (inside / whole) / region.double().mean(dim=(1, 2))
