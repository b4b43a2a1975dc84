"""Mean and standard deviation of each channel, measured on the images.

C channels, H W space.
"""

from __future__ import annotations

import torch

from kanvision.data.errors import DataError
from kanvision.data.readers.segmentation_base import Indices, SegmentationSource
from kanvision.data.seeding import random_state
from kanvision.data.splits.holdout import stratified_limit

__all__ = ["measure_channel_statistics"]

MAX_IMAGES = 256
"""Number of images that are read; more hardly change the result."""


def measure_channel_statistics(
    source: SegmentationSource, indices: Indices, *, skip_bad_samples: bool = False
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and standard deviation of each channel over the pixels of a fixed choice of images.

    Args:
        source: Source of the images.
        indices: Indices to choose from, which should be those of the training images.
        skip_bad_samples: Skip images that cannot be read.

    Returns:
        C means and C standard deviations, in units of [0, 1]; a constant channel has standard deviation 1.

    Raises:
        DataError: If an image cannot be read, or none can be read.
    """
    chosen = indices[stratified_limit(source.strata[indices], MAX_IMAGES)]
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    with random_state(0):  # a source may draw one of several images of an area
        for position, index in enumerate(chosen, 1):
            try:
                pixels = source[int(index)]["image"].double().flatten(1)  # (C, H*W)
            except DataError:
                if not skip_bad_samples or (position == len(chosen) and not count):
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
    """Return values rounded to six significant digits, which are enough and readable in a file."""
    return tuple(float(f"{value:.6g}") for value in values.tolist())
