"""Datamodule of segmentation for Lightning's trainer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kanvision.data.errors import DataError
from kanvision.data.loading.bad_samples import resolve_on_bad_sample
from kanvision.data.loading.segmentation_dataset import SegmentationDataset
from kanvision.data.readers import (
    SEGMENTATION_READERS,
    SegmentationReader,
    SegmentationSource,
    SegmentationSplits,
)
from kanvision.data.splits.holdout import grouped_holdout
from kanvision.data.transforms.classification import ImageSpec
from kanvision.data.transforms.normalize import Preprocessing
from kanvision.data.transforms.segmentation import build_segmentation_augment
from kanvision.spec.data import EvalSize, Interpolation, PreprocessingName
from kanvision.spec.tasks import MaskMode

from .base import ImageDataModule, Indices, SplitSources, list_reader_keys
from .channel_statistics import measure_channel_statistics

__all__ = ["SegmentationDataModule"]

RGB_BANDS = ("B04", "B03", "B02")
"""Bands of Sentinel-2 for red, green and blue."""


class SegmentationDataModule(ImageDataModule):
    """Datamodule of images with masks.

    Batches are {"image": (B, in_chans, S, S), "mask": (B, S, S) int64, "index": (B,)}. With mode=multilabel,
    the mask is (B, num_classes, S, S), of 0 and 1. Data sets with instance masks add "instances",
    (B, S, S) int64, with a number for each object of an image. The names of the images of a split are
    `datasets[split].names`, or `datasets[split].source.names[index]`.

    Args:
        name: Name of a reader in `SEGMENTATION_READERS`.
        mean: Mean of each channel, in units of [0, 1]; None: measured on the training images.
        std: Standard deviation of each channel, in units of [0, 1]; None: measured on the training images.
        mode: Kind of masks: binary (0 and 1), multiclass (one class a pixel) or multilabel (one mask a
            class).
        preprocessing: Name of the preprocessing, as for `Preprocessing`.
        eval_size: input: validation and test masks are resized as their images are; original: masks keep
            their size, batches hold one image, and predictions have to be resized to the mask.
        **options: Arguments of `ImageDataModule` and of the reader; `augment` holds the arguments of
            `build_segmentation_augment`, and `crop_pct` must be 1.

    Raises:
        ValueError: If the name is unknown, or mean, std, crop_pct or augment do not fit.
    """

    reader: SegmentationReader

    def __init__(
        self,
        name: str,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        mode: MaskMode = "multiclass",
        preprocessing: PreprocessingName = "default",
        eval_size: EvalSize = "input",
        **options: Any,
    ) -> None:
        if name not in SEGMENTATION_READERS:
            legal = ", ".join(sorted(SEGMENTATION_READERS))
            raise ValueError(f"data.name={name} is not a data set with masks; legal: {legal}")
        kind = SEGMENTATION_READERS[name]
        keys = list_reader_keys(kind)
        own = {key: options.pop(key) for key in keys if key in options}
        if "mode" in keys:
            own["mode"] = mode
        blank = options["in_chans"] * [1.0]
        super().__init__(name, mean=mean or blank, std=std or blank, **options)
        if self.crop_pct != 1:
            raise ValueError(
                f"data.crop_pct={self.crop_pct}: masks are scored whole; legal for segmentation: 1"
            )
        self.mode = mode
        self.preprocessing_name = preprocessing
        self.preprocessing = Preprocessing(self.spec.mean, self.spec.std, preprocessing)
        self.measured = [key for key, value in (("mean", mean), ("std", std)) if value is None]
        self.eval_size = eval_size
        if eval_size == "original":
            self.eval_batch_size = 1  # images of different sizes make no batch
        self.reader = kind(
            self.root,
            num_classes=self.expected_classes,
            in_chans=self.spec.in_chans,
            img_size=self.spec.img_size,
            split_seed=self.split_seed,
            download=self.download,
            **own,
        )
        self.reader.max_pixels = self.max_pixels
        self.reader.known_classes = self.known_classes
        self.reader.tolerance = "files" if self.on_bad_sample == "skip" else "none"
        interpolation = self.augment.pop("interpolation", "bilinear")
        self.train_interpolation: Interpolation = "bilinear" if interpolation == "random" else interpolation
        self.train_transform = build_segmentation_augment(**self.augment)

    def prepare_data(self) -> None:
        """Refuse to download data that are missing and must be downloaded by hand."""
        self.reader.prepare()

    def read(self) -> SegmentationSplits:
        """Find and check the images and their masks."""
        splits = self.reader.read()
        if len(bad := self.reader.problems) > self.max_bad_samples:
            limit = f"data.max_bad_samples={self.max_bad_samples}: {len(bad)} files cannot be used"
            raise self.reader.error(limit, *bad)
        return splits

    def setup(self, stage: str | None = None) -> None:
        """Find, check and split the data, and measure mean and std if they are not set."""
        is_new = not self.datasets
        super().setup(stage)
        if is_new and self.measured:
            train = self.datasets["train"]
            measured = measure_channel_statistics(
                train.source, train.indices, skip_bad_samples=self.on_bad_sample == "skip"
            )
            found = dict(zip(("mean", "std"), measured, strict=True))
            mean, std = (found[key] if key in self.measured else getattr(self.spec, key) for key in found)
            self.spec = ImageSpec(self.spec.img_size, self.spec.in_chans, mean, std)
            self.preprocessing = Preprocessing(mean, std, self.preprocessing_name)
            for dataset in self.datasets.values():
                dataset.preprocessing = self.preprocessing

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel in units of [0, 1], which undoes the normalization: x = y std + mean."""
        return self.preprocessing.mean

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel, for use with `mean`."""
        return self.preprocessing.std

    @property
    def rgb(self) -> tuple[int, ...]:
        """Channels of a batch to show as red, green and blue; empty for the first three."""
        bands = getattr(self.reader, "bands", None) or ()
        if all(band in bands for band in RGB_BANDS):
            return tuple(bands.index(band) for band in RGB_BANDS)
        return (2, 1, 0) if self.preprocessing_name == "u_kan" else ()

    @property
    def colors(self) -> tuple[tuple[int, int, int], ...]:
        """Red, green and blue of each class if `palette` names colors; else empty."""
        palette = getattr(self.reader, "palette", None)
        return () if palette is None else tuple(palette.colors)

    def align_classes(self, splits: SplitSources) -> None:
        """Refuse masks of other classes, because pixels of an unknown class would count as background."""
        trained, there = ", ".join(self.known_classes), ", ".join(splits.class_names)
        raise self.error(f"the masks are of {there}; they need all classes of the training: {trained}")

    def get_strata(self, source: SegmentationSource) -> Indices:
        """Return the kind of each image, (N,), over which splits are balanced."""
        return source.strata

    def hold_out(self, source: SegmentationSource) -> tuple[Indices, Indices]:
        """Return the indices to train on and to validate on, without a group in both."""
        if source.groups is None:
            return super().hold_out(source)
        return grouped_holdout(source.groups, source.strata, self.val_fraction, self.split_seed)

    def build_dataset(
        self, source: SegmentationSource, indices: Indices, *, training: bool
    ) -> SegmentationDataset:
        """Return the dataset of chosen images, augmented for training."""
        return SegmentationDataset(
            source,
            indices,
            img_size=self.spec.img_size,
            preprocessing=self.preprocessing,
            interpolation=self.train_interpolation if training else self.interpolation,
            augment=self.train_transform if training else None,
            keep_mask_size=self.eval_size == "original" and not training,
            on_bad_sample=resolve_on_bad_sample(self.on_bad_sample, training=training),
        )

    def error(self, problem: str) -> DataError:
        """Return the error with the expected tree and the source of the data."""
        return self.reader.error(f"{self.reader.root}: {problem}")
