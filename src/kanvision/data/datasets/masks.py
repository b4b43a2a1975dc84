"""What a data set with masks gives: samples, and their splits.

C channels, H W space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from torch import Tensor
from torch.utils.data import Dataset

__all__ = ["SegmentationSample", "SegmentationSplits"]


class SegmentationSample(TypedDict):
    """One image with its mask.

    Attributes:
        image: (C, H, W) float32, in units of [0, 1].
        mask: (H, W) int64, class of each pixel; 0 is background.
        index: Place in the data set.
    """

    image: Tensor
    mask: Tensor
    index: int


@dataclass(frozen=True)
class SegmentationSplits:
    """A data set with masks.

    Attributes:
        class_names: Name of each class, in the order of the labels.
        train: Samples to learn from.
        test: Samples for the final score.
        val: Samples to choose the best checkpoint by, where the data set brings its own.
    """

    class_names: tuple[str, ...]
    train: Dataset[SegmentationSample]
    test: Dataset[SegmentationSample]
    val: Dataset[SegmentationSample] | None = None
