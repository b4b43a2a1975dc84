"""Relevance of each channel, or band, of an image to a network.

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
    """Changes when a channel is removed, (B, C), from 0 (no change) to 1."""

    attention: Tensor
    """1 - IoU of the pixels where the saliency map is not 0, with and without the channel."""
    answer: Tensor
    """Distance of the predictions with and without the channel."""


def without_channel(images: Tensor, channel: int, baseline: Tensor) -> Tensor:
    """Return images (B, C, H, W) with the baseline in one channel."""
    changed = images.clone()
    changed[:, channel] = baseline.expand_as(images)[:, channel]
    return changed


def disagreement(first: Tensor, second: Tensor) -> Tensor:
    """Return 1 - IoU of two sets of pixels, bool (B, H, W), as (B,); 0 if both are empty."""
    return 1 - overlap(first, second).iou.nan_to_num(1.0)


def channel_relevance(
    saliency: Callable[[Tensor], Tensor],
    distance: Callable[[Tensor], Tensor],
    images: Tensor,
    baseline: Tensor,
) -> ChannelRelevance:
    """Replace each channel by the baseline, and measure the changes of saliency map and prediction.

    After Rege Cambrin et al. 2024, "KAN You See It? KANs and Sentinel for Effective and Explainable Crop
    Field Segmentation" (arXiv 2408.07040), who report the IoU of the maps; 1 - IoU makes large values mean
    relevant channels.

    Args:
        saliency: Function from images (B, C, H, W) to maps (B, H, W), not negative.
        distance: Function from changed images (C * B, C, H, W), channel by channel, to the distances of their
            predictions from those of `images`, (C * B,), in [0, 1].
        images: Images, (B, C, H, W).
        baseline: Replacement of a channel, broadcastable to the images.
    """
    channels, size = images.shape[1], len(images)
    changed = torch.cat([without_channel(images, channel, baseline) for channel in range(channels)])
    before = (saliency(images) > 0).repeat(channels, 1, 1)  # (C * B, H, W)
    attention = disagreement(saliency(changed) > 0, before)
    found = (values.reshape(channels, size).T for values in (attention, distance(changed)))  # (B, C) each
    return ChannelRelevance(*found)


def attribution_shares(attributions: Tensor) -> Tensor:
    """Return the share of each channel in absolute attributions (B, C, H, W): (B, C), NaN if all are 0."""
    sums = attributions.abs().sum(dim=(2, 3))
    return sums / sums.sum(dim=1, keepdim=True)
