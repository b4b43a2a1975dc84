"""Whether a network's answer really rests on the pixels that a saliency map names.

B batch, C channels, S shares, H W space.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .plausibility import ranks

__all__ = ["SHARES", "Faithfulness", "faithfulness", "keep", "remove"]

SHARES = (0.05, 0.1, 0.2, 0.5)
"""Shares of an image's pixels that are kept or removed."""


class Faithfulness(NamedTuple):
    """Both in units of what was measured, (B,)."""

    sufficiency: Tensor
    """What is lost when only the map's pixels are left; near 0 (or below) is good."""
    comprehensiveness: Tensor
    """What is lost when the map's pixels are gone; high is good."""


def keep(images: Tensor, pixels: Tensor, baseline: Tensor) -> Tensor:
    """Images with the baseline everywhere but at these pixels.

    Args:
        images: (B, C, H, W).
        pixels: bool (B, H, W).
        baseline: Broadcastable to the images.
    """
    return images.where(pixels[:, None], baseline)


def remove(images: Tensor, pixels: Tensor, baseline: Tensor) -> Tensor:
    """Images with the baseline at these pixels; see `keep`."""
    return keep(images, ~pixels, baseline)


@torch.no_grad()
def faithfulness(
    measure: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    baseline: Tensor,
    shares: Sequence[float] = SHARES,
) -> Faithfulness:
    """What a measure of the answer loses, averaged over shares of pixels, the most salient ones first.

    sufficiency = mean over s of m(x) - m(x with only the top s of its pixels),
    comprehensiveness = mean over s of m(x) - m(x without the top s of its pixels).

    DeYoung et al. 2020, "ERASER: A Benchmark to Evaluate Rationalized NLP Models" (arXiv 1911.03429), for
    pixels. As every map names the same number of pixels, maps of any kind and network compare; what a random
    map gets is the level to compare with.

    Args:
        measure: Images (B, C, H, W) to a number for each, (B,), such as the probability of a class.
        images: (B, C, H, W).
        maps: Saliency (B, H, W).
        baseline: What removed pixels become, broadcastable to the images.
        shares: Shares of the pixels, each above 0 and below 1.
    """
    rank, number = ranks(maps), maps[0].numel()
    tops = [rank < round(share * number) for share in shares]  # S times (B, H, W)
    changed = torch.cat([change(images, top, baseline) for change in (keep, remove) for top in tops])
    kept, left = measure(changed).reshape(2, len(tops), -1).mean(dim=1)  # (B,) each
    whole = measure(images)
    return Faithfulness(whole - kept, whole - left)
