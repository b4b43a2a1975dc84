"""Data of a segmentation run, for Lightning's trainer."""

from __future__ import annotations

from typing import Any

import numpy as np

from .augment import segmentation_augment
from .datamodule import ImageDataModule, Indices
from .datasets import SEGMENTATION_READERS, SegmentationSplits
from .masked_samples import MaskedDataset

__all__ = ["SegmentationDataModule"]


class SegmentationDataModule(ImageDataModule):
    """Loaders for training, validation and test of images with masks.

    Batches are {"image": (B, in_chans, S, S), "mask": (B, S, S) int64, "index": (B,)}.

    Args:
        name: Data set, a key of `SEGMENTATION_READERS`.
        **options: Arguments of `ImageDataModule`; `augment` holds those of `segmentation_augment`, `crop_pct`
            must be 1, and generated data need no `root`, `interpolation` or `download`.

    Raises:
        ValueError: If the name is unknown, or mean, std, crop_pct or augment do not fit.
    """

    def __init__(self, name: str, **options: Any) -> None:
        if name not in SEGMENTATION_READERS:
            legal = ", ".join(sorted(SEGMENTATION_READERS))
            raise ValueError(f"data.name={name} is no data set with masks; legal: {legal}")
        super().__init__(name, **options)
        if self.crop_pct != 1:
            raise ValueError(
                f"data.crop_pct={self.crop_pct}: masks are scored whole; legal for segmentation: 1"
            )
        self.train_transform = segmentation_augment(**self.augment)

    def read(self) -> SegmentationSplits:
        """Find the images and their masks."""
        reader = SEGMENTATION_READERS[self.dataset_name]
        return reader(self.root, self.expected_classes, self.spec.in_chans, self.spec.img_size)

    def strata(self, source: Any) -> Indices:
        """One group: an image has no class of its own."""
        return np.zeros(len(source), dtype=np.int64)

    def serve(self, source: Any, indices: Indices, *, training: bool) -> MaskedDataset:
        """These images, augmented for training."""
        return MaskedDataset(source, indices, self.spec, self.train_transform if training else None)
