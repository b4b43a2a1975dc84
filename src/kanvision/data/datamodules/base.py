"""Datamodules for Lightning's trainer: the base of all tasks, and classification."""

from __future__ import annotations

import inspect
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from kanvision.data.errors import DataError
from kanvision.data.files.pillow import MAX_PIXELS
from kanvision.data.loading.bad_samples import resolve_on_bad_sample
from kanvision.data.loading.image_dataset import ImageDataset
from kanvision.data.loading.loaders import get_upcoming_epoch, make_loader
from kanvision.data.loading.samplers import EvenBatchSampler, TrainBatchSampler
from kanvision.data.readers import READERS, ImageSource, Splits
from kanvision.data.readers.base import DataReader, Reader
from kanvision.data.splits.holdout import stratified_holdout, stratified_limit
from kanvision.data.transforms.classification import (
    ImageSpec,
    build_evaluation_transform,
    build_training_transform,
)
from kanvision.spec.data import SPLITS, FaultPolicy, Interpolation, Sampling

__all__ = ["ClassificationDataModule", "ImageDataModule", "list_reader_keys"]

Indices = NDArray[np.int64]


class SplitSources(Protocol):
    """Splits of a data set as a reader finds them; `val` is None if the data set has no validation split."""

    @property
    def class_names(self) -> tuple[str, ...]: ...
    @property
    def train(self) -> Any: ...
    @property
    def test(self) -> Any: ...
    @property
    def val(self) -> Any: ...


class ImageDataModule(pl.LightningDataModule, ABC):
    """Base of the datamodules, with the splits and loaders of one data set.

    The datamodule builds its own samplers for the processes of the attached trainer, so the trainer must be
    built with `use_distributed_sampler=False`. Subclasses read the data and build the datasets.

    Args:
        name: Name of the data set.
        in_chans: Number of input channels.
        img_size: Side of the square images in pixels.
        mean: Mean of each channel, in units of [0, 1].
        std: Standard deviation of each channel, in units of [0, 1].
        root: Folder of the data set; null for data that ship with a package or are generated.
        num_classes: Expected number of classes; null: the number that the data have.
        interpolation: Interpolation by which images are resized for evaluation.
        crop_pct: Share of the resized image that the center crop of evaluation keeps.
        download: Download the data set if it is missing.
        augment: Arguments of the training transform of the task, and `num_repeats`, the number of copies of
            an image in one global batch.
        val_fraction: Fraction of the training images that is held out for validation, by class if images have
            one; 0: validate on the test split.
        split_seed: Seed of the held-out fraction.
        batch_size: Number of images per device and training step.
        eval_batch_size: Number of images per device and evaluation step; null: as in training.
        num_workers: Number of loader processes per device.
        limit: Largest number of training images; null: all.
        limit_test: Largest number of validation images and of test images; null: all.
        on_bad_sample: "raise": a sample that cannot be read is an error. "skip": training replaces it by the
            next sample, evaluation skips it, and batches list it (`kanvision.data.loading.bad_samples`).
        max_bad_samples: Largest number of bad files that may be found before the first batch. The counter of
            bad samples in batches has the same limit.
        max_pixels: Largest number of pixels of an image file; None: no limit.
        seed: Seed of the order of samples and of augmentation.
        known_classes: Class names of a trained network in the order of its outputs, to which labels are
            mapped; if empty, the classes of the data in their own order.

    Raises:
        ValueError: If mean or std do not have in_chans values.
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
        interpolation: Interpolation = "bilinear",
        crop_pct: float = 1.0,
        download: bool = False,
        augment: Mapping[str, Any] | None = None,
        val_fraction: float = 0.1,
        split_seed: int = 0,
        batch_size: int = 128,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        limit: int | None = None,
        limit_test: int | None = None,
        on_bad_sample: FaultPolicy = "raise",
        max_bad_samples: int = 10,
        max_pixels: int | None = MAX_PIXELS,
        seed: int = 0,
        known_classes: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.known_classes = tuple(known_classes)
        self.present_classes: tuple[str, ...] = ()
        """Class names of the data, in their own order."""
        self.dataset_name = name
        self.on_bad_sample = on_bad_sample
        self.max_bad_samples = max_bad_samples
        self.max_pixels = max_pixels
        self.spec = ImageSpec(img_size, in_chans, tuple(mean), tuple(std))
        self.root = root
        self.expected_classes = num_classes
        self.interpolation = interpolation
        self.crop_pct = crop_pct
        self.download = download
        self.augment = dict(augment or {})
        self.num_repeats = int(self.augment.pop("num_repeats", 1))
        self.val_fraction = val_fraction
        self.split_seed = split_seed
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size or batch_size
        self.num_workers = num_workers
        self.limit = limit
        self.limit_test = limit_test
        self.seed = seed
        self.datasets: dict[str, Any] = {}
        self._class_names: tuple[str, ...] = ()

    reader: DataReader
    """Reader of the data set."""

    @abstractmethod
    def read(self) -> SplitSources:
        """Find and check the data."""

    @abstractmethod
    def align_classes(self, splits: SplitSources) -> None:
        """Map the labels of the data to the classes of a trained network.

        Raises:
            DataError: If classes cannot be mapped.
        """

    @abstractmethod
    def get_strata(self, source: Any) -> Indices:
        """Return the stratum of each image, (N,), over which limit and held-out set are balanced."""

    @abstractmethod
    def build_dataset(self, source: Any, indices: Indices, *, training: bool) -> Any:
        """Return the dataset of chosen images of a source, which loads whole batches."""

    def setup(self, stage: str | None = None) -> None:
        """Find, check and split the data on the first call.

        Raises:
            DataError: If files are missing or broken, or labels or the number of classes do not fit.
        """
        if self.datasets:
            return
        splits = self.read()
        self.present_classes = splits.class_names
        self._class_names = self.known_classes or splits.class_names
        if self.present_classes != self._class_names:
            self.align_classes(splits)
        train, held_out = self._training_indices(splits)
        if splits.val is not None:
            val = self._limited(splits.val)
        elif held_out is not None:
            val = self._limited(splits.train, held_out)
        else:
            # A checkpoint chosen by its test score makes that score too good.
            warnings.warn(
                f"{self.dataset_name}: data.val_fraction=0, so validation uses the test split", stacklevel=2
            )
            val = self._limited(splits.test)
        self.datasets = {
            "train": self._limited(splits.train, train, training=True),
            "val": val,
            "test": self._limited(splits.test),
        }

    def _training_indices(self, splits: SplitSources) -> tuple[Indices, Indices | None]:
        """Return the indices to train on, and the indices held out for validation or None."""
        if splits.val is not None or not self.val_fraction:
            return np.arange(len(splits.train)), None
        if not len(splits.train):  # evaluation of a network on data without training images
            return np.arange(0), np.arange(0)
        kept, held_out = self.hold_out(splits.train)
        if not len(held_out):
            raise self.error(
                f"no class has two training images, so none can be held out by "
                f"data.val_fraction={self.val_fraction}; set it to 0 or add images"
            )
        return kept, held_out

    def hold_out(self, source: Any) -> tuple[Indices, Indices]:
        """Return the indices of a source to train on, and the indices to validate on."""
        return stratified_holdout(self.get_strata(source), self.val_fraction, self.split_seed)

    def _limited(self, source: Any, indices: Indices | None = None, *, training: bool = False) -> Any:
        indices = np.arange(len(source)) if indices is None else indices
        limit = self.limit if training else self.limit_test
        chosen = indices[stratified_limit(self.get_strata(source)[indices], limit)]
        return self.build_dataset(source, chosen, training=training)

    @property
    def facts(self) -> dict[str, str]:
        """Facts about the data for the header of a run, by name."""
        self._split("train")
        return self.reader.facts

    def error(self, problem: str) -> DataError:
        """Return the error for a problem with the data."""
        return DataError(f"data set {self.dataset_name}: {problem}")

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel, in units of [0, 1]."""
        return tuple(self.spec.mean)

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel, in units of [0, 1]."""
        return tuple(self.spec.std)

    def _split(self, name: str) -> Any:
        if not self.datasets:
            self.setup()
        return self.datasets[name]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names in the order of the targets."""
        self._split("train")
        return self._class_names

    @property
    def num_classes(self) -> int:
        """Number of classes of the data set."""
        return len(self.class_names)

    @property
    def num_images(self) -> dict[str, int]:
        """Number of images in train, val and test."""
        return {name: len(self._split(name)) for name in SPLITS}

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of shuffled, augmented batches, which depend on (seed, epoch, rank) alone."""
        dataset, trainer = self._split("train"), self.trainer
        world_size, rank = self._processes()
        batches = TrainBatchSampler(
            dataset,
            self.batch_size,
            seed=self.seed,
            num_replicas=world_size,
            rank=rank,
            num_repeats=self.num_repeats,
            weights=self.sampling_weights(dataset),
            # Lightning switches shuffling off to overfit, but not inside a batch sampler.
            fixed=getattr(trainer, "overfit_batches", 0) > 0,
        )
        batches.set_epoch(0 if trainer is None else get_upcoming_epoch(trainer))
        return make_loader(dataset, batches, num_workers=self.num_workers)

    def sampling_weights(self, dataset: Any) -> Sequence[float] | None:
        """Return the relative frequency of each training image; None: each is drawn once an epoch."""
        return None

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the validation images, each once over all processes."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the test images, each once over all processes."""
        return self._evaluation_loader("test")

    def _evaluation_loader(self, split: str) -> DataLoader[Any]:
        dataset = self._split(split)
        world_size, rank = self._processes()
        batches = EvenBatchSampler(len(dataset), self.eval_batch_size, num_replicas=world_size, rank=rank)
        return make_loader(dataset, batches, num_workers=self.num_workers)

    def _processes(self) -> tuple[int, int]:
        """Return the number of processes and the rank of this one."""
        return (1, 0) if self.trainer is None else (self.trainer.world_size, self.trainer.global_rank)


class ClassificationDataModule(ImageDataModule):
    """Datamodule of images with one class each.

    Batches are {"image": (B, in_chans, S, S), "target": (B,), "index": (B,)}.

    Args:
        name: Name of a reader in `READERS`.
        sampling: "uniform": each training image once an epoch; "balanced": all classes equally often.
        **options: Arguments of `ImageDataModule` and of the reader; `augment` holds the arguments of
            `build_training_transform`.

    Raises:
        ValueError: If the name is unknown, or mean, std or augment do not fit.
    """

    reader: Reader

    def __init__(self, name: str, sampling: Sampling = "uniform", **options: Any) -> None:
        self.sampling = sampling
        if name not in READERS:
            raise ValueError(f"data.name={name} is unknown; legal: {', '.join(sorted(READERS))}")
        own = {key: options.pop(key) for key in list_reader_keys(READERS[name]) if key in options}
        super().__init__(name, **options)
        self.reader = READERS[name](self.root, self.expected_classes, self.download, **own)
        self.reader.max_pixels = self.max_pixels
        self.reader.known_classes = self.known_classes
        self.train_transform = build_training_transform(self.spec, **self.augment)
        self.eval_transform = build_evaluation_transform(
            self.spec, interpolation=self.interpolation, crop_pct=self.crop_pct
        )

    def prepare_data(self) -> None:
        """Download the data if they are missing and `download` is set.

        Raises:
            DataError: If the download fails.
        """
        self.reader.prepare()

    def read(self) -> Splits:
        """Find and check the images."""
        return self.reader.read()

    def align_classes(self, splits: SplitSources) -> None:
        """Map the targets to the classes of a trained network by the names of the classes."""
        unknown = [name for name in splits.class_names if self.known_classes.count(name) != 1]
        if unknown:
            raise self.error(f"{', '.join(unknown)}: not found once among the names of the trained classes")
        outputs = np.array([self.known_classes.index(name) for name in splits.class_names], np.int64)
        for source in (splits.train, splits.test, splits.val):
            if source is not None:
                source.targets = outputs[source.targets]

    def get_strata(self, source: ImageSource) -> Indices:
        """Return the class of each image."""
        return source.targets

    def sampling_weights(self, dataset: ImageDataset) -> Sequence[float] | None:
        """Return 1 over the number of images of its class for each image, for balanced sampling."""
        if self.sampling == "uniform":
            return None
        weights: Sequence[float] = (1 / np.bincount(dataset.targets)[dataset.targets]).tolist()
        return weights

    def build_dataset(self, source: ImageSource, indices: Indices, *, training: bool) -> ImageDataset:
        """Return the dataset of chosen images, augmented for training."""
        return ImageDataset(
            source,
            indices,
            self.train_transform if training else self.eval_transform,
            on_bad_sample=resolve_on_bad_sample(self.on_bad_sample, training=training),
            shape=(self.spec.in_chans, self.spec.img_size, self.spec.img_size),
        )

    def error(self, problem: str) -> DataError:
        """Return the error with the expected tree and the source of the data."""
        return self.reader.error(f"{self.reader.root}: {problem}")


def list_reader_keys(reader: type[DataReader]) -> set[str]:
    """Return the keyword arguments of a reader and its bases that are not arguments of every datamodule."""
    constructors = [vars(kind)["__init__"] for kind in reader.__mro__ if "__init__" in vars(kind)]
    found = {
        name
        for constructor in constructors
        for name, parameter in inspect.signature(constructor).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    return found - {"num_classes", "in_chans", "img_size", "split_seed", "download"}
