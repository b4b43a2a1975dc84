"""Your own images with masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from kanvision.data.files.folders import mask_data_files, subfolders
from kanvision.data.files.image_mask_pairs import (
    BinaryMask,
    Entry,
    ImageFile,
    ImageMaskPairs,
    IndexMask,
    MaskFile,
    MaskPlanes,
    binary_values,
    numbered_labels,
)
from kanvision.data.files.mask_values import Codes, MaskValues, count_values, list_values, name_value
from kanvision.data.files.palette import IGNORE, Palette, PaletteMask, load_palette
from kanvision.data.files.pillow import pixel_limit
from kanvision.data.files.pixels import gray_levels
from kanvision.data.splits.holdout import stratified_holdout
from kanvision.data.splits.published import TEST_SHARE
from kanvision.spec.data import SPLITS
from kanvision.spec.tasks import MaskMode

from .base import DatasetInfo
from .image_mask_base import ImageMaskReader, natural
from .label_checks import absent_labels, check_foreground, check_labels
from .segmentation_base import SegmentationSplits

__all__ = ["SegmentationFolder"]

IMAGES = "images"
MOST_MASKS: Final = 500
"""Masks whose values are counted before a run starts; what the others hold is checked when they are read."""


class SegmentationFolder(ImageMaskReader):
    """An image and its mask have the same name, whatever their endings.

    With train/, val/ and test/, val/ is used for validation; with train/ and one of the others, that one is
    the test. Without them, a fixed fifth of the images is the test.

    Args:
        root: The folder.
        mode: binary: foreground or not; multiclass: masks hold the class of each pixel; multilabel: one
            folder of masks a class.
        mask_folder: Name of the folder of the masks.
        mask_suffix: What the name of a mask has behind that of its image, for example _mask.
        threshold: For binary and multilabel: gray level (0 to 255) above which a pixel is foreground; 0:
            every stored value but zero.
        foreground: For threshold=0: all: every stored value but zero is foreground; numbers: these are, and
            all others are background; None: the only one but zero, and several are refused.
        palette: Class of each color or stored number, or a file with them; None: masks hold numbers of
            classes.
        bands: Bands of an image to use, counted from 1; None: all.
        ignore_index: Stored value of pixels that neither train nor count, as it is in batches; None: all do.
        **options: Arguments of `ImageMaskReader`.
    """

    info = DatasetInfo(
        name="segmentation_folder",
        tree="<root>/images/<name>.png, .jpg, .tif (any bands), .npy, ...\n"
        "<root>/masks/<name>.png, ...          data.mode=binary or multiclass\n"
        "<root>/masks/<class>/<name>.png, ...  data.mode=multilabel, one folder a class\n"
        "with splits of your own, either of:\n"
        "<root>/train/images/, <root>/train/masks/   and the same in val/ and test/\n"
        "<root>/images/train/, <root>/masks/train/   and the same with val and test",
        source="your own images",
    )

    def __init__(
        self,
        root: str | Path | None,
        *,
        mode: MaskMode = "binary",
        mask_folder: str = "masks",
        mask_suffix: str = "",
        threshold: int = 0,
        foreground: Literal["all"] | Sequence[int] | None = None,
        palette: Mapping[str, str] | str | None = None,
        bands: Sequence[int] | None = None,
        ignore_index: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(root, **options)
        self.mode = mode
        self.mask_folder = mask_folder
        self.mask_suffix = mask_suffix
        self.threshold = threshold
        self.foreground = foreground
        self.palette: Palette | None = None if palette is None else load_palette(palette)
        self.bands = None if bands is None else tuple(bands)
        self.ignore_index = ignore_index

    def read(self) -> SegmentationSplits:
        """Index all images, compare the sizes of images and masks, and split."""
        root, problems = self.existing_root(), list[str]()
        split_folders = self._find_split_folders(root)
        classes: list[str] | None = None
        entries: list[Entry] = []
        parts: list[str] = []
        for split, images, masks in split_folders:
            missing = [f"{folder}: folder is missing" for folder in (images, masks) if not folder.is_dir()]
            if missing:
                problems += missing
                continue
            folders = self._mask_folders(masks, problems)
            names = [folder.name for folder in folders]
            if self.mode == "multilabel" and classes not in (None, names):
                problems.append(f"{masks}: has the class folders {names}; those before are {classes}")
            classes = names
            found = self._entries(images, folders, f"{split}/" if split else "", problems)
            entries += found
            parts += [split] * len(found)
        mask, class_names = self._classes(classes or [], entries, problems)
        source = ImageMaskPairs(
            entries, ImageFile(self.in_chans, self.max_value, self.bands), mask, self.fail
        )
        return self.checked_splits(source, class_names, lambda: self._parts(parts, source), problems=problems)

    def _find_split_folders(self, root: Path) -> list[tuple[str, Path, Path]]:
        """Name of each split with its folders of images and masks; one without a name if there are none."""
        outer = [s for s in SPLITS if (root / s / IMAGES).is_dir()]
        if outer:
            return [(s, root / s / IMAGES, root / s / self.mask_folder) for s in outer]
        inner = [s for s in SPLITS if (root / IMAGES / s).is_dir()]
        if inner:
            return [(s, root / IMAGES / s, root / self.mask_folder / s) for s in inner]
        return [("", root / IMAGES, root / self.mask_folder)]

    def _mask_folders(self, masks: Path, problems: list[str]) -> list[Path]:
        """The folders that each hold one mask an image."""
        inner = [masks / name for name in sorted(subfolders(masks), key=natural)]
        loose = bool(mask_data_files(masks))
        if self.mode == "multilabel":
            if not inner:
                problems.append(f"{masks}: has no folder for each class, which data.mode=multilabel needs")
            return inner
        if loose or not inner:
            return [masks]
        if self.mode == "binary" and len(inner) == 1:
            return inner
        names = ", ".join(folder.name for folder in inner[:5])
        problems.append(f"{masks}: has the folders {names}: one a class? take data.mode=multilabel")
        return []

    def _entries(self, images: Path, folders: list[Path], prefix: str, problems: list[str]) -> list[Entry]:
        files = _by_stem(images, problems)
        masks = [_by_stem(folder, problems) for folder in folders]
        if not files:
            problems.append(f"{images}: holds no image")
        entries = []
        for stem in sorted(files, key=natural):
            lacking = [
                folder
                for folder, found in zip(folders, masks, strict=True)
                if stem + self.mask_suffix not in found
            ]
            for folder in lacking:
                wanted = f"{folder / (stem + self.mask_suffix)}.*"
                text = f"{files[stem]}: has no mask {wanted}; add it, or delete the image"
                others = [name for name in masks[folders.index(folder)] if name.startswith(stem)]
                hint = f"; there is {others[0]}: data.mask_suffix={others[0][len(stem) :]}?" if others else ""
                problems.append(text + hint)
            if folders and not lacking:
                planes = tuple(found[stem + self.mask_suffix] for found in masks)
                entries.append(Entry(prefix + stem, files[stem], planes))
        return entries

    def _classes(
        self, folders: list[str], entries: list[Entry], problems: list[str]
    ) -> tuple[MaskFile, tuple[str, ...]]:
        """Return how masks are read and the names of the classes, after a look at what the masks hold."""
        if self.palette is not None:
            return self._palette_classes(self.palette, entries, problems)
        if self.mode == "multiclass":
            return self._numbered_classes(entries, problems)
        values = self._look(entries, gray_levels if self.threshold else binary_values, problems)
        found = check_foreground(values, self.mode, self.ignore_index) if self._is_strict else []
        problems += found
        foreground = None if self.foreground == "all" else self.foreground
        if self._is_strict and not found:
            foreground = sorted(set(values.pixels) - {0, self.ignore_index}) or None
        mask = BinaryMask(
            self.threshold,
            self.ignore_index,
            None if foreground is None else tuple(foreground),
            is_strict=self._is_strict,
        )
        if self.mode == "binary":
            return mask, self.foreground_names("foreground")
        problems += self.class_problems(folders) if folders else []
        return MaskPlanes(mask), tuple(folders)

    @property
    def _is_strict(self) -> bool:
        """Whether only one stored value may be foreground."""
        return self.foreground is None and not self.threshold

    def _numbered_classes(
        self, entries: list[Entry], problems: list[str]
    ) -> tuple[MaskFile, tuple[str, ...]]:
        count = self.num_classes
        values = self._look(entries, numbered_labels, problems, whole=count is None)
        if count is None:
            problems += check_labels(values, self.ignore_index)
            count = 1 + max(set(values.pixels) - {self.ignore_index}, default=0)
        if values.pixels and (absent := absent_labels(values, count)):
            self.facts["masks"] += f"; none shows {list_values(absent)}"
        names = ("background", *(f"class_{label}" for label in range(1, count)))
        return IndexMask(count, self.ignore_index), names

    def _palette_classes(
        self, palette: Palette, entries: list[Entry], problems: list[str]
    ) -> tuple[MaskFile, tuple[str, ...]]:
        names, is_ignoring = palette.names, None in palette.labels.values()
        if is_ignoring and (self.ignore_index is None or 0 <= self.ignore_index < len(names)):
            given = "null" if self.ignore_index is None else self.ignore_index
            problems.append(
                f"data.palette: has pixels to {IGNORE}, which get the label data.ignore_index={given}; "
                "take one that no class has, as 255"
            )
        if self.mode == "binary":
            if len(names) != 2:
                problems.append(
                    f"data.palette: names {len(names)} classes; data.mode=binary has two, background first"
                )
            names = names[1:] if self.num_classes == 1 else names
        else:
            problems += self.class_problems(names)
        self._look(entries, palette.read, problems)
        return PaletteMask(palette, self.ignore_index), names

    def _look(
        self,
        entries: list[Entry],
        read: Callable[[Path], Codes],
        problems: list[str],
        *,
        whole: bool = False,
    ) -> MaskValues:
        """Return what masks hold, and keep it for the header of a run; nothing where files are missing.

        Args:
            entries: The images with their masks.
            read: Reads the stored values of a file.
            problems: Gets what is wrong with files, unless that is tolerated.
            whole: Look at all masks, rather than at some at even distances.
        """
        if problems or not entries:
            return MaskValues()
        most = len(entries) if whole else min(len(entries), MOST_MASKS)
        indices = np.linspace(0, len(entries) - 1, most).round().astype(int)
        paths = [path for index in indices for path in entries[index].masks]

        def read_within_limit(path: Path) -> Codes:
            with pixel_limit(self.max_pixels):
                return read(path)

        values, bad_files = count_values(paths, read_within_limit, sum(len(entry.masks) for entry in entries))
        # Where they are tolerated they are found again, and counted, when they are read.
        if self.tolerance == "none" or (self.tolerance == "files" and not values.pixels):
            problems += bad_files
        if values.pixels:
            self.facts["masks"] = values.describe(self.ignore_index, self._name)
        return values

    def _name(self, code: int) -> str:
        """Return what a stored value is called in the header of a run."""
        if self.palette is None:
            return name_value(code)
        label = self.palette.labels.get(code, -1)
        shown = name_value(code, as_color=self.palette.by_color)
        known = "unknown" if label == -1 else IGNORE if label is None else self.palette.names[label]
        return f"{shown} {known}"

    def _parts(self, parts: list[str], source: ImageMaskPairs) -> list[str]:
        given = set(parts)
        if given == {""}:
            _, test = stratified_holdout(source.strata, TEST_SHARE, self.split_seed)
            chosen = set(test.tolist())
            return ["test" if index in chosen else "train" for index in range(len(source))]
        if "train" not in given or len(given) == 1:
            wanted = "train" if "train" not in given else "test, and so is val"
            raise self.error(
                f"{self.root}: the split {wanted} is missing; there is {', '.join(sorted(given))}"
            )
        if "test" in given:
            return parts
        return ["test" if part == "val" else part for part in parts]


def _by_stem(folder: Path, problems: list[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in mask_data_files(folder):
        if path.stem in found:
            problems.append(f"{path}: stands beside {found[path.stem].name}; keep one of them")
        found[path.stem] = path
    return found
