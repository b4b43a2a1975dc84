"""Faithfulness of a saliency map: changes of the prediction with and without its pixels.

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
    """Faithfulness in units of the measure, (B,)."""

    sufficiency: Tensor
    """Decrease with the pixels of the map only; near 0 (or below) is good."""
    comprehensiveness: Tensor
    """Decrease without the pixels of the map; high is good."""


def keep(images: Tensor, pixels: Tensor, baseline: Tensor) -> Tensor:
    """Return images (B, C, H, W) with the baseline outside of the pixels to keep, bool (B, H, W).

    The baseline is broadcastable to the images.
    """
    return images.where(pixels[:, None], baseline)


def remove(images: Tensor, pixels: Tensor, baseline: Tensor) -> Tensor:
    """Return images with the baseline at some pixels; see `keep`."""
    return keep(images, ~pixels, baseline)


@torch.no_grad()
def faithfulness(
    measure: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    baseline: Tensor,
    shares: Sequence[float] = SHARES,
) -> Faithfulness:
    """Return the mean decrease of a measure of the prediction over shares of the most salient pixels.

    sufficiency = mean over s of m(x) - m(x with only the top s of its pixels),
    comprehensiveness = mean over s of m(x) - m(x without the top s of its pixels).

    DeYoung et al. 2020, "ERASER: A Benchmark to Evaluate Rationalized NLP Models" (arXiv 1911.03429), for
    pixels. All maps select the same number of pixels, so maps of different methods and networks are
    comparable; a random map gives the baseline.

    Args:
        measure: Function from images (B, C, H, W) to numbers (B,), such as the probability of a class.
        images: Images, (B, C, H, W).
        maps: Saliency maps, (B, H, W).
        baseline: Replacement of removed pixels, broadcastable to the images.
        shares: Shares of the pixels, each above 0 and below 1.
    """
    rank, number = ranks(maps), maps[0].numel()
    tops = [rank < round(share * number) for share in shares]  # S times (B, H, W)
    changed = torch.cat([change(images, top, baseline) for change in (keep, remove) for top in tops])
    kept, left = measure(changed).reshape(2, len(tops), -1).mean(dim=1)  # (B,) each
    whole = measure(images)
    return Faithfulness(whole - kept, whole - left)
