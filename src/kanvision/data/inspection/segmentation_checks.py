"""Looks at images with masks.

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

from .image_checks import detect_format, digest
from .issues import DataIssue, InspectedSample, Inspector, parse_issue

__all__ = ["CropInspector", "ImageMaskInspector", "SampleInspector"]


class ImageMaskInspector(Inspector[ImageMaskPairs]):
    """Looks at images and masks in files.

    Args:
        source: The images with their masks.
        split: The part of the data set that they are.
        expects_foreground: Whether the masks of a kind of image must show something.
    """

    def __init__(self, source: ImageMaskPairs, split: str, expects_foreground: Callable[[int], bool]) -> None:
        super().__init__(source, split)
        self.expects_foreground = expects_foreground

    def look(self, index: int) -> InspectedSample:
        """Read one image and its mask, each whole."""
        entry = self.source.entries[index]
        issues: list[DataIssue] = []
        sizes: list[tuple[int, ...]] = []
        labels: tuple[int, ...] = ()
        try:
            with pixel_limit(self.source.max_pixels):
                sizes.append(tuple(self.source.image(entry.image).shape[-2:]))
        except FileError as problem:
            issues.append(self._unusable(problem))
        try:
            with pixel_limit(self.source.max_pixels):
                mask = self.source.mask(entry.masks)["mask"]
            sizes.append(mask.shape[-2:])
            shown, found = self._contents(mask, str(entry.masks[0]), entry.kind)
            labels = tuple(shown)
            issues += found
        except FileError as problem:
            issues.append(self._unusable(problem))
        if len(sizes) == 2 and sizes[0] != sizes[1]:
            (rows, cols), (height, width) = sizes
            wrong = f"{width} x {height} pixels, but its image {entry.image.name} has {cols} x {rows} pixels"
            issues.append(DataIssue(str(entry.masks[0]), wrong, "make them the same size", self.split))
        return InspectedSample(tuple(issues), str(entry.image), _digest_of(entry.image), labels)

    def _unusable(self, problem: FileError) -> DataIssue:
        found = parse_issue(str(problem), self.split)
        path = Path(found.file)
        if "cannot be read (" in found.wrong and path.is_file():
            with path.open("rb") as file:
                what = detect_format(file.read(64))
            if what:
                return found._replace(wrong=f"cannot be read (holds {what})")
        return found

    def _contents(self, mask: np.ndarray, name: str, kind: int) -> tuple[list[int], list[DataIssue]]:
        ignored = getattr(self.source.mask, "ignore_index", None)
        if mask.ndim == 3:  # a plane for each class
            shown = [label for label, plane in enumerate(mask) if (plane == 1).any()]
            foreground = shown
            is_full = False
        else:
            shown = [int(label) for label in np.unique(mask) if label != ignored]
            foreground = [label for label in shown if label]
            is_full = bool(foreground) and shown == foreground and len(shown) == 1
        if not foreground:
            is_bad = self.expects_foreground(kind)
            right = "mend the mask, or delete both files" if is_bad else "right if there is nothing to show"
            return shown, [DataIssue(name, "mask is empty", right, self.split, is_bad)]
        if is_full:
            wrong, right = f"every pixel has label {shown[0]}", "right if there is no background"
            return shown, [DataIssue(name, wrong, right, self.split, is_bad=False)]
        return shown, []


class CropInspector(Inspector[CropSource]):
    """Looks at the areas of South Africa Crop Type, each on all the days that training may choose."""

    def look(self, index: int) -> InspectedSample:
        """Read the labels of one area, and its bands on all days."""
        area = self.source.areas[index]
        issues: list[DataIssue] = []
        labels: tuple[int, ...] = ()
        for date in area.dates:
            one_day = CropSource(
                [area.on([date])],
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
    """Looks at samples of which nothing is known but that they can be asked for."""

    def look(self, index: int) -> InspectedSample:
        """Ask for one sample."""
        name = f"{self.split}[{index}] {self.source.names[index]}"
        try:
            sample = self.source[index]
        except DataError as error:
            return InspectedSample(
                tuple(parse_issue(problem, self.split) for problem in error.problems), name
            )
        return InspectedSample(
            tuple(self._judge(sample["image"].numpy(), name)), name, digest(sample["image"].numpy().tobytes())
        )

    def _judge(self, image: np.ndarray, name: str) -> Iterator[DataIssue]:
        if not np.isfinite(image).all():
            yield DataIssue(name, "holds NaN or infinity", "fill these pixels", self.split)


def _digest_of(path: Path) -> bytes:
    try:
        return digest(path.read_bytes())
    except OSError:
        return b""
