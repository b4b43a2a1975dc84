"""What each channel, or band, of the image is worth to a network.

B batch, C channels, H W space.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .plausibility import overlap

__all__ = ["ChannelRelevance", "attribution_shares", "channel_relevance", "disagreement", "without_channel"]


class ChannelRelevance(NamedTuple):
    """What changes when a channel is gone, (B, C), from 0 (nothing) to 1 (all)."""

    attention: Tensor
    """1 - IoU of the places where the saliency map is not 0, with and without the channel."""
    answer: Tensor
    """How far the answers with and without the channel are apart."""


def without_channel(images: Tensor, channel: int, baseline: Tensor) -> Tensor:
    """Images (B, C, H, W) with the baseline in one channel."""
    changed = images.clone()
    changed[:, channel] = baseline.expand_as(images)[:, channel]
    return changed


def disagreement(first: Tensor, second: Tensor) -> Tensor:
    """1 - IoU of two sets of pixels, bool (B, H, W), as (B,); 0 where both are empty."""
    return 1 - overlap(first, second).iou.nan_to_num(1.0)


def channel_relevance(
    saliency: Callable[[Tensor], Tensor],
    distance: Callable[[Tensor], Tensor],
    images: Tensor,
    baseline: Tensor,
) -> ChannelRelevance:
    """Take out one channel after the other, and see what becomes of the saliency map and of the answer.

    After Rege Cambrin et al. 2024, "KAN You See It? KANs and Sentinel for Effective and Explainable Crop
    Field Segmentation" (arXiv 2408.07040), who give the IoU of the maps; here 1 - IoU, so that long bars are
    relevant channels.

    Args:
        saliency: Images (B, C, H, W) to maps (B, H, W), not negative.
        distance: Changed images (C * B, C, H, W), channel by channel, to the distances of their answers from
            those to `images`, (C * B,), in [0, 1].
        images: (B, C, H, W).
        baseline: What a channel becomes, broadcastable to the images.
    """
    channels, size = images.shape[1], len(images)
    changed = torch.cat([without_channel(images, channel, baseline) for channel in range(channels)])
    before = (saliency(images) > 0).repeat(channels, 1, 1)  # (C * B, H, W)
    attention = disagreement(saliency(changed) > 0, before)
    found = (values.reshape(channels, size).T for values in (attention, distance(changed)))  # (B, C) each
    return ChannelRelevance(*found)


def attribution_shares(attributions: Tensor) -> Tensor:
    """Share of each channel in the absolute attributions (B, C, H, W), as (B, C); NaN where all are 0."""
    sums = attributions.abs().sum(dim=(2, 3))
    return sums / sums.sum(dim=1, keepdim=True)
