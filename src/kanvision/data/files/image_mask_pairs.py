"""Sources of images and masks in files, and the readers of their files.

N images, C channels, H W space, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kanvision.data.errors import DataError
from kanvision.data.readers.segmentation_base import Indices, SegmentationSample, SegmentationSource

from .mask_pixels import read_binary_values, read_gray_levels, read_lossless_labels
from .mask_values import Codes, format_values
from .pillow import MAX_PIXELS, pixel_limit
from .pixels import (
    FileError,
    fit_channels,
    read_pixels,
    read_size,
    scale_to_unit_range,
)

__all__ = [
    "BinaryMask",
    "Entry",
    "ImageFile",
    "ImageMaskPairs",
    "IndexMask",
    "InstanceMask",
    "MaskFile",
    "MaskPart",
    "MaskPlanes",
]

MaskPart = Literal["mask", "instances"]
"""Labels of a pixel: its class, and the number of its object."""
NUM_CHECKED = 16
"""Number of samples that are read before a run starts, to find a wrong threshold or number of classes."""


@dataclass(frozen=True)
class Entry:
    """Files of one image and of its mask.

    Attributes:
        name: Name in tables of splits.
        image: Image file.
        masks: Mask files: one, several of one foreground, or one for each class.
        kind: Kind of image, over which splits are balanced.
    """

    name: str
    image: Path
    masks: tuple[Path, ...]
    kind: int = 0


@dataclass(frozen=True)
class ImageFile:
    """Reader of an image file.

    Attributes:
        in_chans: Number of channels of the result.
        max_value: Stored value that becomes 1; None: by the type of the file.
        bands: Bands of the file, counted from 1; None: all.
    """

    in_chans: int
    max_value: float | None = None
    bands: tuple[int, ...] | None = None

    def __call__(self, path: Path) -> Tensor:
        """Return the image, (C, H, W) float32 in units of [0, 1]."""
        stored = read_pixels(path, self.in_chans, self.bands)
        fitting = fit_channels(stored, self.in_chans, path)
        return torch.from_numpy(scale_to_unit_range(fitting, path, self.max_value, stored.dtype))


class MaskFile(Protocol):
    """Reader of the mask of an image."""

    def read_values(self, path: Path) -> Codes:
        """Return the stored values of one file, (H, W)."""

    def __call__(self, paths: Sequence[Path]) -> dict[MaskPart, NDArray[np.int64]]:
        """Return `mask`, (H, W) or (K, H, W), and `instances`, (H, W), if objects are numbered."""


@dataclass(frozen=True)
class BinaryMask:
    """Reader of a binary mask, the union of the foreground of its files.

    Attributes:
        threshold: Gray level (0 to 255) above which a pixel is foreground; 0: stored values decide.
        ignore_index: Stored value of pixels that do not count, and their label; None: all count.
        foreground: Stored values that are foreground under threshold=0; None: all values but 0.
        is_strict: Refuse a file with values other than `foreground` and 0, which are background otherwise.
    """

    threshold: int = 127
    ignore_index: int | None = None
    foreground: tuple[int, ...] | None = None
    is_strict: bool = False

    def __call__(self, paths: Sequence[Path]) -> dict[MaskPart, NDArray[np.int64]]:
        """Return `mask` of 0 and 1, (H, W)."""
        mask = self.read_plane(paths[0])
        for path in paths[1:]:
            other = self.read_plane(path)
            if other.shape != mask.shape:
                raise FileError(f"{path}: {_size(other)}, but {paths[0].name} has {_size(mask)}")
            mask = np.where((mask == 0) | (other == 1), other, mask)
        return {"mask": mask}

    def read_values(self, path: Path) -> Codes:
        """Return the gray levels of one file or, without a threshold, its stored values, (H, W)."""
        return read_gray_levels(path).astype(np.int64) if self.threshold else read_binary_values(path)

    def read_plane(self, path: Path) -> NDArray[np.int64]:
        """Return the foreground of one file, (H, W)."""
        values = self.read_values(path)
        if self.threshold:
            is_foreground = values > self.threshold
        else:
            is_foreground = values != 0
            if self.foreground is not None:
                is_known = np.isin(values, self.foreground)
                if self.is_strict:
                    self._refuse_others(values[is_foreground & ~is_known], path)
                is_foreground = is_known
        foreground: NDArray[np.int64] = is_foreground.astype(np.int64)
        if self.ignore_index is not None:
            foreground[values == self.ignore_index] = self.ignore_index
        return foreground

    def _refuse_others(self, values: NDArray[np.int64], path: Path) -> None:
        others = set(np.unique(values).tolist()) - {self.ignore_index}
        if others:
            assert self.foreground is not None
            raise FileError(
                f"{path}: holds {format_values(others)}, where the masks counted before the run hold "
                f"{format_values({0, *self.foreground})}; data.foreground says which values are foreground"
            )


@dataclass(frozen=True)
class IndexMask:
    """Reader of a mask that holds the class of each pixel.

    Attributes:
        num_classes: Number of classes, which labels must be below; None: any label is legal.
        ignore_index: Label of pixels that do not count, legal beside the others; None: all count.
    """

    num_classes: int | None
    ignore_index: int | None = None

    def read_values(self, path: Path) -> Codes:
        """Return the stored numbers of one file, (H, W)."""
        return read_lossless_labels(path)

    def __call__(self, paths: Sequence[Path]) -> dict[MaskPart, NDArray[np.int64]]:
        """Return `mask`, (H, W)."""
        (path,) = paths
        labels = self.read_values(path)
        if self.num_classes is not None and (labels.max() >= self.num_classes or labels.min() < 0):
            wrong = labels[(labels >= self.num_classes) | (labels < 0)]
            wrong = wrong if self.ignore_index is None else wrong[wrong != self.ignore_index]
            if len(wrong):
                also = "" if self.ignore_index is None else f" and {self.ignore_index}"
                text = (
                    f"{path}: holds label {wrong[0]} ({len(wrong)} such pixels); "
                    f"legal for data.num_classes={self.num_classes}: 0 to {self.num_classes - 1}{also}"
                )
                if self.ignore_index is None and (wrong == wrong[0]).all():
                    text += f"; data.ignore_index={wrong[0]} if these pixels do not count"
                raise FileError(text)
        return {"mask": labels}


@dataclass(frozen=True)
class InstanceMask:
    """Reader of a mask that holds the object number of each pixel, 0 being background."""

    def read_values(self, path: Path) -> Codes:
        """Return the stored numbers of one file, (H, W)."""
        return read_lossless_labels(path)

    def __call__(self, paths: Sequence[Path]) -> dict[MaskPart, NDArray[np.int64]]:
        """Return `mask` of 0 and 1, and `instances`, both (H, W)."""
        (path,) = paths
        instances = self.read_values(path)
        return {"mask": (instances > 0).astype(np.int64), "instances": instances}


@dataclass(frozen=True)
class MaskPlanes:
    """Reader of a multilabel mask with one binary file for each class.

    Attributes:
        binary: Reader of the file of one class.
    """

    binary: BinaryMask

    @property
    def threshold(self) -> int:
        """Gray level above which a pixel is foreground; 0 if stored values decide."""
        return self.binary.threshold

    @property
    def ignore_index(self) -> int | None:
        """Stored value of pixels that do not count; None if all count."""
        return self.binary.ignore_index

    def read_values(self, path: Path) -> Codes:
        """Return the stored values of the file of one class, (H, W)."""
        return self.binary.read_values(path)

    def __call__(self, paths: Sequence[Path]) -> dict[MaskPart, NDArray[np.int64]]:
        """Return `mask` of 0 and 1, (K, H, W)."""
        planes = [self.binary.read_plane(path) for path in paths]
        if wrong := [(path, p) for path, p in zip(paths, planes, strict=True) if p.shape != planes[0].shape]:
            path, plane = wrong[0]
            raise FileError(f"{path}: {_size(plane)}, but {paths[0]} has {_size(planes[0])}")
        return {"mask": np.stack(planes)}


class ImageMaskPairs(SegmentationSource):
    """Source of images and masks in files.

    Args:
        entries: Files of the images and their masks.
        image: Reader of an image.
        mask: Reader of a mask.
        fail: Builds the error for files that cannot be used from a list of problems.
        groups: Group of each image, (N,), none of which is split; None: no image has a group.
    """

    max_pixels: int | None = MAX_PIXELS
    """Largest number of pixels of an image; None: no limit."""

    def __init__(
        self,
        entries: Sequence[Entry],
        image: ImageFile,
        mask: MaskFile,
        fail: Callable[[list[str]], DataError],
        groups: Indices | None = None,
    ) -> None:
        self.entries = tuple(entries)
        self.names = tuple(entry.name for entry in entries)
        self.strata = np.array([entry.kind for entry in entries], dtype=np.int64)
        self.image = image
        self.mask = mask
        self.fail = fail
        self.groups = groups

    def __getitem__(self, index: int) -> SegmentationSample:
        """Read one image and its mask.

        Raises:
            DataError: If a file cannot be used, or image and mask differ in size.
        """
        entry = self.entries[index]
        try:
            with pixel_limit(self.max_pixels):
                image = self.image(entry.image)
                planes = self.mask(entry.masks)
        except FileError as problem:
            raise self.fail([str(problem)]) from problem
        mask = planes["mask"]
        if mask.shape[-2:] != image.shape[-2:]:
            raise self.fail([_sizes_differ(entry.masks[0], _size(mask), entry.image, _size(image))])
        sample: SegmentationSample = {"image": image, "mask": torch.from_numpy(mask), "index": index}
        if "instances" in planes:
            sample["instances"] = torch.from_numpy(planes["instances"])
        return sample

    def select(self, indices: Iterable[int]) -> ImageMaskPairs:
        """Return a source of chosen images, in the order of the indices."""
        chosen = list(indices)
        groups = None if self.groups is None else self.groups[chosen]
        some = ImageMaskPairs([self.entries[i] for i in chosen], self.image, self.mask, self.fail, groups)
        some.max_pixels = self.max_pixels
        return some

    def find_size_problems(self) -> list[str]:
        """Return the problems with unreadable files, and with masks of another size than their image."""
        with ThreadPoolExecutor() as pool:
            found = pool.map(lambda entry: _size_problems(entry, self.max_pixels), self.entries)
            return [problem for problems in found for problem in problems]

    def find_content_problems(self) -> tuple[list[str], list[str]]:
        """Return the problems with `NUM_CHECKED` images and masks at even distances.

        Returns:
            Problems with single files, and the one with all masks if none of them has foreground.
        """
        if not len(self):
            return [], []
        indices = np.unique(np.linspace(0, len(self) - 1, NUM_CHECKED).round().astype(int))
        problems, empty = [], []
        ignored = getattr(self.mask, "ignore_index", None)
        for entry in (self.entries[index] for index in indices):
            try:
                with pixel_limit(self.max_pixels):
                    self.image(entry.image)
                    labels = self.mask(entry.masks)["mask"]
                empty.append(not ((labels != 0) & (labels != ignored)).any())
            except FileError as problem:
                problems.append(str(problem))
        if problems or not all(empty):
            return problems, []
        return [], [_all_empty(self.entries[indices[0]].masks[0], len(indices), self.mask)]


def _size(array: NDArray[np.generic] | Tensor) -> str:
    height, width = array.shape[-2:]
    return f"{width} x {height} pixels"


def _sizes_differ(mask: Path, mask_size: str, image: Path, image_size: str) -> str:
    return f"{mask}: {mask_size}, but its image {image.name} has {image_size}; make them the same size"


def _size_problems(entry: Entry, max_pixels: int | None) -> list[str]:
    found = []
    try:
        with pixel_limit(max_pixels):
            height, width = read_size(entry.image)
            for path in entry.masks:
                rows, cols = read_size(path)
                if (rows, cols) != (height, width):
                    wrong, right = f"{cols} x {rows} pixels", f"{width} x {height} pixels"
                    found.append(_sizes_differ(path, wrong, entry.image, right))
    except FileError as problem:
        return [str(problem)]
    return found


def _all_empty(path: Path, count: int, mask: MaskFile) -> str:
    threshold = getattr(mask, "threshold", 0)
    text = f"{path}: is empty, as are all of the {count} masks that were read"
    if threshold:
        highest = read_gray_levels(path).max()
        text += f" (gray levels above {threshold} are foreground; the highest here is {highest})"
    return f"{text}; is the folder of the masks right?"
