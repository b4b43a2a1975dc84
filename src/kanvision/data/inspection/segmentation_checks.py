"""Inspectors of images with masks.

C channels, H W space, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from kanvision.data.errors import DataError
from kanvision.data.files.image_mask_pairs import ImageMaskPairs
from kanvision.data.files.pillow import pixel_limit
from kanvision.data.files.pixels import FileError
from kanvision.data.readers import SegmentationSource
from kanvision.data.readers.sentinel_crops import CropSource

from .image_checks import compute_digest, detect_format
from .issues import DataIssue, InspectedSample, Inspector, parse_issue

__all__ = ["CropInspector", "ImageMaskInspector", "SampleInspector"]


class ImageMaskInspector(Inspector[ImageMaskPairs]):
    """Inspector of images and masks in files.

    Args:
        source: Source of the images and masks.
        split: Name of the split.
        expects_foreground: Returns True for a kind of image whose masks must have foreground.
    """

    def __init__(self, source: ImageMaskPairs, split: str, expects_foreground: Callable[[int], bool]) -> None:
        super().__init__(source, split)
        self.expects_foreground = expects_foreground

    def inspect(self, index: int) -> InspectedSample:
        """Read one image and its mask completely, and return their issues."""
        entry = self.source.entries[index]
        issues: list[DataIssue] = []
        sizes: list[tuple[int, ...]] = []
        labels: tuple[int, ...] = ()
        try:
            with pixel_limit(self.source.max_pixels):
                sizes.append(tuple(self.source.image(entry.image).shape[-2:]))
        except FileError as problem:
            issues.append(self._describe(problem))
        try:
            with pixel_limit(self.source.max_pixels):
                mask = self.source.mask(entry.masks)["mask"]
            sizes.append(mask.shape[-2:])
            shown, found = self._check_contents(mask, str(entry.masks[0]), entry.kind)
            labels = tuple(shown)
            issues += found
        except FileError as problem:
            issues.append(self._describe(problem))
        if len(sizes) == 2 and sizes[0] != sizes[1]:
            (rows, cols), (height, width) = sizes
            wrong = f"{width} x {height} pixels, but its image {entry.image.name} has {cols} x {rows} pixels"
            issues.append(DataIssue(str(entry.masks[0]), wrong, "make them the same size", self.split))
        return InspectedSample(tuple(issues), str(entry.image), _compute_file_digest(entry.image), labels)

    def _describe(self, problem: FileError) -> DataIssue:
        found = parse_issue(str(problem), self.split)
        path = Path(found.file)
        if "cannot be read (" in found.wrong and path.is_file():
            with path.open("rb") as file:
                what = detect_format(file.read(64))
            if what:
                return found._replace(wrong=f"cannot be read (holds {what})")
        return found

    def _check_contents(self, mask: np.ndarray, name: str, kind: int) -> tuple[list[int], list[DataIssue]]:
        ignored = getattr(self.source.mask, "ignore_index", None)
        if mask.ndim == 3:  # one plane for each class
            shown = [label for label, plane in enumerate(mask) if (plane == 1).any()]
            foreground = shown
            is_full = False
        else:
            shown = [int(label) for label in np.unique(mask) if label != ignored]
            foreground = [label for label in shown if label]
            is_full = bool(foreground) and shown == foreground and len(shown) == 1
        if not foreground:
            is_bad = self.expects_foreground(kind)
            right = (
                "correct the mask, or delete both files" if is_bad else "legal if the image has no foreground"
            )
            return shown, [DataIssue(name, "mask is empty", right, self.split, is_bad)]
        if is_full:
            wrong, right = f"every pixel has label {shown[0]}", "legal if the image has no background"
            return shown, [DataIssue(name, wrong, right, self.split, is_bad=False)]
        return shown, []


class CropInspector(Inspector[CropSource]):
    """Inspector of the areas of South Africa Crop Type on all days that training may choose."""

    def inspect(self, index: int) -> InspectedSample:
        """Read the labels of one area and its bands on all days, and return their issues."""
        area = self.source.areas[index]
        issues: list[DataIssue] = []
        labels: tuple[int, ...] = ()
        for date in area.dates:
            one_day = CropSource(
                [area.select_days([date])],
                self.source.bands,
                self.source.fail,
                binary=self.source.binary,
                max_value=self.source.max_value,
                max_pixels=self.source.max_pixels,
            )
            try:
                labels = tuple(np.unique(one_day[0]["mask"].numpy()).tolist())
            except DataError as error:
                issues += [parse_issue(problem, self.split) for problem in error.problems]
        return InspectedSample(tuple(dict.fromkeys(issues)), str(area.label), b"", labels)


class SampleInspector(Inspector[SegmentationSource]):
    """Inspector of samples of any other source."""

    def inspect(self, index: int) -> InspectedSample:
        """Load one sample and return its issues."""
        name = f"{self.split}[{index}] {self.source.names[index]}"
        try:
            sample = self.source[index]
        except DataError as error:
            return InspectedSample(
                tuple(parse_issue(problem, self.split) for problem in error.problems), name
            )
        return InspectedSample(
            tuple(self._check_image(sample["image"].numpy(), name)),
            name,
            compute_digest(sample["image"].numpy().tobytes()),
        )

    def _check_image(self, image: np.ndarray, name: str) -> Iterator[DataIssue]:
        if not np.isfinite(image).all():
            yield DataIssue(name, "holds NaN or infinity", "fill these pixels", self.split)


def _compute_file_digest(path: Path) -> bytes:
    try:
        return compute_digest(path.read_bytes())
    except OSError:
        return b""
