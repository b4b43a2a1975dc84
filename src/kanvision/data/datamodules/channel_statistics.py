"""Mean and standard deviation of each channel, measured on the images.

C channels, H W space.
"""

from __future__ import annotations

import torch

from kanvision.data.errors import DataError
from kanvision.data.readers.segmentation_base import Indices, SegmentationSource
from kanvision.data.seeding import random_state
from kanvision.data.splits.holdout import stratified_limit

__all__ = ["channel_statistics"]

MOST_IMAGES = 256
"""Images that are read; more hardly change the result."""


def channel_statistics(
    source: SegmentationSource, indices: Indices, *, skip_faults: bool = False
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation over all pixels of a fixed choice of images.

    Args:
        source: The images.
        indices: Those to choose from, which should be the training images.
        skip_faults: Leave out images that cannot be read.

    Returns:
        C means and C standard deviations, in units of [0, 1]; a channel without any variation has 1.

    Raises:
        DataError: If an image cannot be read, or none can.
    """
    chosen = indices[stratified_limit(source.strata[indices], MOST_IMAGES)]
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    with random_state(0):  # a source may choose among pictures of one place
        for number, index in enumerate(chosen, 1):
            try:
                pixels = source[int(index)]["image"].double().flatten(1)  # (C, H*W)
            except DataError:
                if not skip_faults or (number == len(chosen) and not count):
                    raise
                continue
            count += pixels.shape[1]
            total = total + pixels.sum(dim=1)
            squares = squares + pixels.square().sum(dim=1)
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt()
    std = torch.where(std > 1e-9, std, 1.0)
    return _rounded(mean), _rounded(std)


def _rounded(values: torch.Tensor) -> tuple[float, ...]:
    """Six significant digits: enough, and readable in a file."""
    return tuple(float(f"{value:.6g}") for value in values.tolist())
