"""What a data set with masks gives: samples, their source, and the reader that finds them.

N images, C channels, H W space, K classes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from .base import DataReader

__all__ = ["SegmentationReader", "SegmentationSample", "SegmentationSource", "SegmentationSplits"]

Indices = NDArray[np.int64]


class _Sample(TypedDict):
    image: Tensor
    mask: Tensor
    index: int


class SegmentationSample(_Sample, total=False):
    """One image with its mask.

    Attributes:
        image: (C, H, W) float32, in units of [0, 1].
        mask: (H, W) int64, class of each pixel, 0 being background; or (K, H, W) of 0 and 1 where each class
            has a mask of its own.
        index: Place in the data set.
        instances: (H, W) int64, number of the object that each pixel belongs to, 0 being background; only
            where the data set tells objects apart.
    """

    instances: Tensor


class SegmentationSource(Dataset[SegmentationSample]):
    """Images of one split with their masks, of any size.

    Attributes:
        names: (N,) name of each image, the same however the data were split.
        strata: (N,) kind of each image, over which splits and limits are balanced.
        groups: (N,) images that belong together (of one patient, near duplicates) have the same number and
            never straddle a split; None: each image stands alone.
    """

    names: Sequence[str]
    strata: Indices
    groups: Indices | None = None

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def __getitem__(self, index: int) -> SegmentationSample:
        """The sample at this place."""


@dataclass(frozen=True)
class SegmentationSplits:
    """A data set with masks.

    Attributes:
        class_names: Name of each class, in the order of the labels; a single name for foreground that is told
            from background by one number a pixel.
        train: Samples to learn from.
        test: Samples for the final score.
        val: Samples to choose the best checkpoint by, where the data set brings its own.
    """

    class_names: tuple[str, ...]
    train: SegmentationSource
    test: SegmentationSource
    val: SegmentationSource | None = None


class SegmentationReader(DataReader):
    """Finds a data set of images with masks and checks it.

    Subclasses take further keyword arguments: they are keys of `data`, and reach the reader by name.

    Args:
        root: Folder on disk; null for generated data.
        num_classes: Number of classes; null: whatever is there.
        in_chans: Channels of an image.
        img_size: Side of the square that images are brought to.
        split_seed: Seed of the split.
        download: Fetch the data set when it is missing.
        max_value: Stored value that becomes 1; null: the largest of an unsigned integer type, 1 for floats.
    """

    def __init__(
        self,
        root: str | Path | None,
        *,
        num_classes: int | None,
        in_chans: int,
        img_size: int,
        split_seed: int = 0,
        download: bool = False,
        max_value: float | None = None,
    ) -> None:
        super().__init__(root, num_classes, download)
        self.in_chans = in_chans
        self.img_size = img_size
        self.split_seed = split_seed
        self.max_value = max_value

    def present(self) -> bool:
        """Whether the root is a folder."""
        return self.root is not None and self.root.is_dir()

    @abstractmethod
    def read(self) -> SegmentationSplits:
        """Index the images and their masks.

        Raises:
            DataError: If files are missing or broken, or masks or the number of classes do not fit.
        """

    def expects_foreground(self, kind: int) -> bool:
        """Whether the mask of each image of a kind shows something; elsewhere an empty one is as good."""
        return False

    def foreground_names(self, foreground: str) -> tuple[str, ...]:
        """Names of the classes of a data set with one foreground.

        Two classes are told apart by two numbers a pixel (softmax), one by a single number (sigmoid); the
        masks are the same.

        Args:
            foreground: What the masks show.

        Raises:
            ValueError: If another number of classes is asked for.
        """
        if self.num_classes not in (None, 1, 2):
            raise ValueError(
                f"data.num_classes={self.num_classes}: {self.info.name} has background and {foreground}; "
                "legal: 2 (softmax over both) or 1 (one logit a pixel)"
            )
        return (foreground,) if self.num_classes == 1 else ("background", foreground)
