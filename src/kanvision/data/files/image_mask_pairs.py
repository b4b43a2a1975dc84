"""Images and masks in files, read when they are asked for.

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

from .mask_values import is_color, is_jpeg, list_values
from .pillow import MAX_PIXELS, pixel_limit
from .pixels import (
    FileError,
    fit_channels,
    gray_levels,
    in_unit_range,
    label_values,
    stored_pixels,
    stored_size,
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
    "binary_values",
    "numbered_labels",
]

MaskPart = Literal["mask", "instances"]
"""Labels of a pixel: its class, and the number of its object."""
NUM_LOOKED_AT = 16
"""Masks that are read before a run starts, to find a wrong threshold or number of classes at once."""


@dataclass(frozen=True)
class Entry:
    """One image with the files of its mask.

    Attributes:
        name: What it is called in tables of splits.
        image: Its file.
        masks: Files of its mask: one, several of one image, or one a class.
        kind: Kind of image, over which splits are balanced.
    """

    name: str
    image: Path
    masks: tuple[Path, ...]
    kind: int = 0


@dataclass(frozen=True)
class ImageFile:
    """Reads an image file.

    Attributes:
        in_chans: Channels that come out.
        max_value: Stored value that becomes 1; None: by the type of the file.
        bands: Bands of the file, counted from 1; None: all.
    """

    in_chans: int
    max_value: float | None = None
    bands: tuple[int, ...] | None = None

    def __call__(self, path: Path) -> Tensor:
        """(C, H, W) float32, in units of [0, 1]."""
        stored = stored_pixels(path, self.in_chans, self.bands)
        fitting = fit_channels(stored, self.in_chans, path)
        return torch.from_numpy(in_unit_range(fitting, path, self.max_value, stored.dtype))


class MaskFile(Protocol):
    """Reads the mask of an image from its files."""

    def __call__(self, paths: Sequence[Path]) -> dict[MaskPart, NDArray[np.int64]]:
        """`mask`, (H, W) or (K, H, W), and perhaps `instances`, (H, W)."""


@dataclass(frozen=True)
class BinaryMask:
    """Foreground of any of several files.

    Attributes:
        threshold: Gray level (0 to 255) above which a pixel is foreground; 0: stored values decide.
        ignore_index: Stored value of pixels that do not count and keep it; None: all count.
        foreground: Stored values that are foreground under threshold=0; None: every value but 0.
        is_strict: Refuse a file with other values than `foreground` and 0; otherwise they are background.
    """

    threshold: int = 127
    ignore_index: int | None = None
    foreground: tuple[int, ...] | None = None
    is_strict: bool = False

    def __call__(self, paths: Sequence[Path]) -> dict[MaskPart, NDArray[np.int64]]:
        """`mask` of 0 and 1, (H, W)."""
        mask = self.plane(paths[0])
        for path in paths[1:]:
            other = self.plane(path)
            if other.shape != mask.shape:
                raise FileError(f"{path}: {_size(other)}, but {paths[0].name} has {_size(mask)}")
            mask = np.where((mask == 0) | (other == 1), other, mask)
        return {"mask": mask}

    def plane(self, path: Path) -> NDArray[np.int64]:
        """Foreground of one file, (H, W)."""
        if self.threshold:
            values = gray_levels(path).astype(np.int64)
            is_foreground = values > self.threshold
        else:
            values = binary_values(path)
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
                f"{path}: holds {list_values(others)}, where the masks that were looked at hold "
                f"{list_values({0, *self.foreground})}; data.foreground says which values are foreground"
            )


def binary_values(path: Path) -> NDArray[np.int64]:
    """Return the stored values of a mask that shows one foreground, (H, W), colors as codes.

    Raises:
        FileError: If the file cannot be read, or is a JPEG with noise around black and white.
    """
    values = label_values(path, colors_too=True)
    if is_jpeg(path) and len(found := set(np.unique(values).tolist()) - {0}) > 1:
        fix = "data.threshold=127 takes the bright ones"
        if any(map(is_color, found)):
            fix = "save colors as PNG, and name them by data.palette"
        raise FileError(
            f"{path}: is a JPEG with {list_values(found)} besides 0, and data.threshold=0 makes all of them "
            f"foreground; {fix}"
        )
    return values


@dataclass(frozen=True)
class IndexMask:
    """The class of each pixel.

    Attributes:
        num_classes: Labels must be below; None: any.
        ignore_index: Label of pixels that do not count, legal beside the others; None: all count.
    """

    num_classes: int | None
    ignore_index: int | None = None

    def __call__(self, paths: Sequence[Path]) -> dict[MaskPart, NDArray[np.int64]]:
        """`mask`, (H, W)."""
        (path,) = paths
        labels = numbered_labels(path)
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
                    text += f"; data.ignore_index={wrong[0]} if these pixels are not to count"
                raise FileError(text)
        return {"mask": labels}


@dataclass(frozen=True)
class InstanceMask:
    """The number of the object that each pixel belongs to; foreground is every number but 0."""

    def __call__(self, paths: Sequence[Path]) -> dict[MaskPart, NDArray[np.int64]]:
        """`mask` of 0 and 1, and `instances`, both (H, W)."""
        (path,) = paths
        instances = numbered_labels(path)
        return {"mask": (instances > 0).astype(np.int64), "instances": instances}


def numbered_labels(path: Path) -> NDArray[np.int64]:
    """Return the numbers of classes or objects that a mask holds, (H, W).

    Raises:
        FileError: If the file cannot be read, holds colors or fractions, or is a JPEG.
    """
    labels = label_values(path)
    if is_jpeg(path):
        raise FileError(f"{path}: is a JPEG, which changes the numbers of classes; save masks as PNG")
    return labels


@dataclass(frozen=True)
class MaskPlanes:
    """One file a class, each with the foreground of its class.

    Attributes:
        binary: Reads the file of one class.
    """

    binary: BinaryMask

    @property
    def threshold(self) -> int:
        """As for `BinaryMask`."""
        return self.binary.threshold

    @property
    def ignore_index(self) -> int | None:
        """As for `BinaryMask`."""
        return self.binary.ignore_index

    def __call__(self, paths: Sequence[Path]) -> dict[MaskPart, NDArray[np.int64]]:
        """`mask` of 0 and 1, (K, H, W)."""
        planes = [self.binary.plane(path) for path in paths]
        if wrong := [(path, p) for path, p in zip(paths, planes, strict=True) if p.shape != planes[0].shape]:
            path, plane = wrong[0]
            raise FileError(f"{path}: {_size(plane)}, but {paths[0]} has {_size(planes[0])}")
        return {"mask": np.stack(planes)}


class ImageMaskPairs(SegmentationSource):
    """Images and masks in files.

    Args:
        entries: The images with their masks.
        image: Reads an image.
        mask: Reads a mask.
        fail: Makes the error for files that cannot be used, from a list of problems.
        groups: (N,) images that belong together; None: each stands alone.
    """

    max_pixels: int | None = MAX_PIXELS
    """Most pixels of an image; None: no limit."""

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
        """A source of these images only, in this order."""
        chosen = list(indices)
        groups = None if self.groups is None else self.groups[chosen]
        some = ImageMaskPairs([self.entries[i] for i in chosen], self.image, self.mask, self.fail, groups)
        some.max_pixels = self.max_pixels
        return some

    def size_problems(self) -> list[str]:
        """Complaints about files that cannot be opened, and masks of another size than their image."""
        with ThreadPoolExecutor() as pool:
            found = pool.map(lambda entry: _size_problems(entry, self.max_pixels), self.entries)
            return [problem for problems in found for problem in problems]

    def content_problems(self) -> tuple[list[str], list[str]]:
        """Complaints about some images and masks, read from the first to the last at even distances.

        Returns:
            Complaints about single files, and the one about all masks, where none of them shows anything.
        """
        if not len(self):
            return [], []
        indices = np.unique(np.linspace(0, len(self) - 1, NUM_LOOKED_AT).round().astype(int))
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
            height, width = stored_size(entry.image)
            for path in entry.masks:
                rows, cols = stored_size(path)
                if (rows, cols) != (height, width):
                    wrong, right = f"{cols} x {rows} pixels", f"{width} x {height} pixels"
                    found.append(_sizes_differ(path, wrong, entry.image, right))
    except FileError as problem:
        return [str(problem)]
    return found


def _all_empty(path: Path, count: int, mask: MaskFile) -> str:
    threshold = getattr(mask, "threshold", 0)
    text = f"{path}: empty, as are all of the {count} masks looked at"
    if threshold:
        text += (
            f" (gray levels above {threshold} are foreground; the highest here is {gray_levels(path).max()})"
        )
    return f"{text}; is the folder of the masks right?"
