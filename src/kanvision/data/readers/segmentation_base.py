"""Bases of data sets with masks: samples, sources, splits and readers.

N images, C channels, H W space, K classes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypedDict

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from kanvision.data.files.mask_values import Codes, MaskValues, count_values, format_value
from kanvision.data.files.pillow import pixel_limit

from .base import DataReader

__all__ = ["SegmentationReader", "SegmentationSample", "SegmentationSource", "SegmentationSplits"]

Indices = NDArray[np.int64]

MAX_COUNTED_MASKS: Final = 500
"""Images whose masks are counted before a run starts; the values of the others are checked on reading."""


class _Sample(TypedDict):
    image: Tensor
    mask: Tensor
    index: int


class SegmentationSample(_Sample, total=False):
    """Image with its mask.

    Attributes:
        image: (C, H, W) float32, in units of [0, 1].
        mask: (H, W) int64, class of each pixel, 0 being background; or (K, H, W) of 0 and 1 for multilabel
            masks.
        index: Index in the source.
        instances: (H, W) int64, object number of each pixel, 0 being background; only for data sets with
            instance masks.
    """

    instances: Tensor


class SegmentationSource(Dataset[SegmentationSample]):
    """Base of the sources of images with masks, of any size.

    Attributes:
        names: Name of each image, (N,), which does not depend on the splits.
        strata: Kind of each image, (N,), over which splits and limits are balanced.
        groups: Group of each image, (N,), such as its patient or its near duplicates; no group is in two
            splits.
            None: no image has a group.
    """

    names: Sequence[str]
    strata: Indices
    groups: Indices | None = None

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def __getitem__(self, index: int) -> SegmentationSample:
        """Return the sample of an index."""


@dataclass(frozen=True)
class SegmentationSplits:
    """Splits of a data set with masks.

    Attributes:
        class_names: Class names in the order of the labels; a single name for foreground with one logit a
            pixel.
        train: Training samples.
        test: Test samples.
        val: Validation samples, if the data set has its own.
    """

    class_names: tuple[str, ...]
    train: SegmentationSource
    test: SegmentationSource
    val: SegmentationSource | None = None


class SegmentationReader(DataReader):
    """Base of the readers of images with masks.

    Keyword arguments of subclasses are keys of `data`, and are passed to the reader by name.

    Args:
        root: Folder of the data set; null for generated data.
        num_classes: Expected number of classes; null: any number.
        in_chans: Number of channels of an image.
        img_size: Side of the resized square images.
        split_seed: Seed of the splits.
        download: Download the data set if it is missing.
        max_value: Stored value that becomes 1; null: the largest of an unsigned integer type, 1 for floats.
    """

    ignore_index: int | None = None
    """Stored value of pixels that do not count; None: all count."""

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
        """Return True if the root is a folder."""
        return self.root is not None and self.root.is_dir()

    @abstractmethod
    def read(self) -> SegmentationSplits:
        """Index the images and their masks.

        Raises:
            DataError: If files are missing or broken, or masks or the number of classes do not fit.
        """

    def count_mask_values(
        self,
        masks: Sequence[Sequence[Path]],
        read: Callable[[Path], Codes],
        *,
        whole: bool = False,
    ) -> tuple[MaskValues, list[str]]:
        """Count the values that masks hold, and keep a summary of them for the header of a run.

        Args:
            masks: Mask files of each image.
            read: Reads the stored values of a file.
            whole: Read the masks of all images, not only of `MAX_COUNTED_MASKS` at even distances.

        Returns:
            The values, and the problems with files that cannot be used. Tolerated files are not listed,
            because loading finds and counts them again.
        """
        if not masks:
            return MaskValues(), []
        count = len(masks) if whole else min(len(masks), MAX_COUNTED_MASKS)
        chosen = np.linspace(0, len(masks) - 1, count).round().astype(int)

        def read_within_limit(path: Path) -> Codes:
            with pixel_limit(self.max_pixels):
                return read(path)

        paths = [path for index in chosen for path in masks[index]]
        values, problems = count_values(paths, read_within_limit, sum(map(len, masks)))
        if values.pixels:
            self.facts["masks"] = values.describe(self.ignore_index, self.describe_value)
        is_tolerated = self.tolerance == "all" or (self.tolerance == "files" and values.pixels)
        return values, [] if is_tolerated else problems

    def describe_value(self, code: int) -> str:
        """Return the name of a stored value of a mask in the header of a run."""
        return format_value(code)

    def expects_foreground(self, kind: int) -> bool:
        """Return True if the mask of each image of a kind has foreground; False if it may be empty."""
        return False

    def list_class_names(self, foreground: str) -> tuple[str, ...]:
        """Return the class names of a data set with one foreground.

        Two classes have two logits a pixel (softmax), one class has a single logit (sigmoid); the masks are
        equal.

        Args:
            foreground: Name of the foreground.

        Raises:
            ValueError: If the configuration has another number of classes.
        """
        if self.num_classes not in (None, 1, 2):
            raise ValueError(
                f"data.num_classes={self.num_classes}: {self.info.name} has background and {foreground}; "
                "legal: 2 (softmax over both) or 1 (one logit a pixel)"
            )
        return (foreground,) if self.num_classes == 1 else ("background", foreground)
