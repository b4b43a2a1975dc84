"""Data of a segmentation run, for Lightning's trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .augment import segmentation_augment
from .datamodule import ImageDataModule, Indices
from .datasets import SEGMENTATION_READERS, SegmentationSplits
from .masked_samples import MaskedDataset
from .transforms import ImageSpec

__all__ = ["SegmentationDataModule"]


class SegmentationDataModule(ImageDataModule):
    """Loaders for training, validation and test of images with masks.

    Batches are {"image": (B, in_chans, S, S), "mask": (B, S, S) int64, "index": (B,)}.

    Args:
        name: Data set, a key of `SEGMENTATION_READERS`.
        root: Folder on disk; null for data that are generated.
        num_classes: Number of classes, background included.
        in_chans: Channels of an image.
        img_size: Side S in pixels.
        mean: Mean of each channel, in units of [0, 1].
        std: Standard deviation of each channel, in units of [0, 1].
        interpolation: How images are resized; generated ones are made at the right size.
        crop_pct: Must be 1: masks are scored whole.
        download: Fetch the data set when it is missing; generated data never are.
        augment: Arguments of `segmentation_augment`, and `num_repeats`.
        **splitting: Arguments of `ImageDataModule`.

    Raises:
        ValueError: If the name is unknown, or mean, std, crop_pct or augment do not fit.
    """

    def __init__(
        self,
        name: str,
        *,
        in_chans: int,
        img_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        root: str | None = None,
        num_classes: int | None = None,
        interpolation: str = "bilinear",
        crop_pct: float = 1.0,
        download: bool = False,
        augment: Mapping[str, Any] | None = None,
        **splitting: Any,
    ) -> None:
        if name not in SEGMENTATION_READERS:
            legal = ", ".join(sorted(SEGMENTATION_READERS))
            raise ValueError(f"data.name={name} is no data set with masks; legal: {legal}")
        if crop_pct != 1:
            raise ValueError(f"data.crop_pct={crop_pct}: masks are scored whole; legal for segmentation: 1")
        arguments = dict(augment or {})
        num_repeats = int(arguments.pop("num_repeats", 1))
        spec = ImageSpec(img_size, in_chans, tuple(mean), tuple(std))
        super().__init__(name, spec, num_repeats=num_repeats, **splitting)
        self.root = root
        self.expected_classes = num_classes
        self.augment = segmentation_augment(**arguments)

    def read(self) -> SegmentationSplits:
        """Find the images and their masks."""
        reader = SEGMENTATION_READERS[self.dataset_name]
        return reader(self.root, self.expected_classes, self.spec.in_chans, self.spec.img_size)

    def strata(self, source: Any) -> Indices:
        """One group: an image has no class of its own."""
        return np.zeros(len(source), dtype=np.int64)

    def serve(self, source: Any, indices: Indices, *, training: bool) -> MaskedDataset:
        """These images, augmented for training."""
        return MaskedDataset(source, indices, self.spec, self.augment if training else None)
