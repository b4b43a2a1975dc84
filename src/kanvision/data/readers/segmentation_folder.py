"""Reader of your own images with masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from kanvision.data.files.folders import list_image_and_array_files, list_subfolders
from kanvision.data.files.image_mask_pairs import (
    BinaryMask,
    Entry,
    ImageFile,
    ImageMaskPairs,
    IndexMask,
    MaskFile,
    MaskPlanes,
)
from kanvision.data.files.mask_values import Codes, MaskValues, format_value, format_values
from kanvision.data.files.palette import IGNORE, Palette, PaletteMask, load_palette
from kanvision.data.files.walk import natural_key
from kanvision.data.splits.holdout import stratified_holdout
from kanvision.data.splits.published import TEST_SHARE
from kanvision.spec.data import SPLITS
from kanvision.spec.tasks import MaskMode

from .base import DatasetInfo
from .image_mask_base import ImageMaskReader, index_by_stem
from .label_checks import check_foreground, check_labels, find_absent_labels
from .segmentation_base import SegmentationSplits

__all__ = ["SegmentationFolder"]

IMAGES = "images"


class SegmentationFolder(ImageMaskReader):
    """Images and masks in two folders, in which an image and its mask have the same name without suffix.

    With train/, val/ and test/, val/ is the validation split; with train/ and one of the others, that one is
    the test. Without them, a fixed fifth of the images is the test.

    Args:
        root: Folder of the data set.
        mode: binary: foreground or background; multiclass: masks hold the class of each pixel; multilabel:
            one folder of masks for each class.
        mask_folder: Name of the folder of the masks.
        mask_suffix: Text between the name of the image and the file suffix in the name of a mask, such as
            _mask.
        threshold: For binary and multilabel: gray level (0 to 255) above which a pixel is foreground; 0:
            stored values decide.
        foreground: For threshold=0: all: every value but zero is foreground; numbers: these values are
            foreground and all others background; None: the only value but zero is foreground, and several are
            refused.
        palette: Class of each color or stored number, or a file with them; None: masks hold class numbers.
        bands: Bands of an image to use, counted from 1; None: all.
        ignore_index: Stored value, and label in batches, of pixels that count in neither loss nor metrics;
            None: all count.
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
        root, problems = self.require_root(), list[str]()
        folders_by_split = self._find_splits(root)
        classes: list[str] | None = None
        entries: list[Entry] = []
        parts: list[str] = []
        for split, images, masks in folders_by_split:
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
        return self.check_and_split(
            source, class_names, lambda: self._parts(parts, source), problems=problems
        )

    def _find_splits(self, root: Path) -> list[tuple[str, Path, Path]]:
        """Return the name of each split with its folders of images and masks; "" without split folders."""
        outer = [s for s in SPLITS if (root / s / IMAGES).is_dir()]
        if outer:
            return [(s, root / s / IMAGES, root / s / self.mask_folder) for s in outer]
        inner = [s for s in SPLITS if (root / IMAGES / s).is_dir()]
        if inner:
            return [(s, root / IMAGES / s, root / self.mask_folder / s) for s in inner]
        return [("", root / IMAGES, root / self.mask_folder)]

    def _mask_folders(self, masks: Path, problems: list[str]) -> list[Path]:
        """Return the folders that hold one mask for each image."""
        inner = [masks / name for name in sorted(list_subfolders(masks), key=natural_key)]
        loose = bool(list_image_and_array_files(masks))
        if self.mode == "multilabel":
            if not inner:
                problems.append(f"{masks}: has no folder for each class, which data.mode=multilabel needs")
            return inner
        if loose or not inner:
            return [masks]
        if self.mode == "binary" and len(inner) == 1:
            return inner
        names = ", ".join(folder.name for folder in inner[:5])
        problems.append(f"{masks}: has the folders {names}: one for each class? set data.mode=multilabel")
        return []

    def _entries(self, images: Path, folders: list[Path], prefix: str, problems: list[str]) -> list[Entry]:
        files = index_by_stem(list_image_and_array_files(images), problems)
        masks = [index_by_stem(list_image_and_array_files(folder), problems) for folder in folders]
        if not files:
            problems.append(f"{images}: holds no image")
        entries = []
        for stem in sorted(files, key=natural_key):
            lacking = [
                folder
                for folder, found in zip(folders, masks, strict=True)
                if stem + self.mask_suffix not in found
            ]
            for folder in lacking:
                expected = f"{folder / (stem + self.mask_suffix)}.*"
                text = f"{files[stem]}: has no mask {expected}; add it, or delete the image"
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
        """Return the reader of masks and the class names, after counting the stored values of the masks."""
        if self.palette is not None:
            return self._read_palette_classes(self.palette, entries, problems)
        if self.mode == "multiclass":
            return self._read_label_classes(entries, problems)
        values = self._count(entries, BinaryMask(self.threshold).read_values, problems)
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
            return mask, self.list_class_names("foreground")
        problems += self.find_class_problems(folders) if folders else []
        return MaskPlanes(mask), tuple(folders)

    @property
    def _is_strict(self) -> bool:
        """True if only one stored value may be foreground."""
        return self.foreground is None and not self.threshold

    def _read_label_classes(
        self, entries: list[Entry], problems: list[str]
    ) -> tuple[MaskFile, tuple[str, ...]]:
        count = self.num_classes
        values = self._count(entries, IndexMask(None).read_values, problems, whole=count is None)
        if count is None:
            problems += check_labels(values, self.ignore_index)
            count = 1 + max(set(values.pixels) - {self.ignore_index}, default=0)
        if values.pixels and (absent := find_absent_labels(values, count)):
            self.facts["masks"] += f"; none shows {format_values(absent)}"
        names = ("background", *(f"class_{label}" for label in range(1, count)))
        return IndexMask(count, self.ignore_index), names

    def _read_palette_classes(
        self, palette: Palette, entries: list[Entry], problems: list[str]
    ) -> tuple[MaskFile, tuple[str, ...]]:
        names, is_ignoring = palette.names, None in palette.labels.values()
        if is_ignoring and (self.ignore_index is None or 0 <= self.ignore_index < len(names)):
            given = "null" if self.ignore_index is None else self.ignore_index
            problems.append(
                f"data.palette: the label of the class {IGNORE} is data.ignore_index={given}; set one that "
                "no class has, such as 255"
            )
        if self.mode == "binary":
            if len(names) != 2:
                problems.append(
                    f"data.palette: names {len(names)} classes; data.mode=binary has two, background first"
                )
            names = names[1:] if self.num_classes == 1 else names
        else:
            problems += self.find_class_problems(names)
        self._count(entries, palette.read, problems)
        return PaletteMask(palette, self.ignore_index), names

    def _count(
        self,
        entries: list[Entry],
        read: Callable[[Path], Codes],
        problems: list[str],
        *,
        whole: bool = False,
    ) -> MaskValues:
        """Return the values that masks hold; nothing where there are problems already."""
        masks = [] if problems else [entry.masks for entry in entries]
        values, bad_files = self.count_mask_values(masks, read, whole=whole)
        problems += bad_files
        return values

    def describe_value(self, code: int) -> str:
        """Return the name of a stored value in the header of a run, with its class if a palette gives one."""
        if self.palette is None:
            return format_value(code)
        label = self.palette.labels.get(code, -1)
        shown = format_value(code, as_color=self.palette.by_color)
        known = "unknown" if label == -1 else IGNORE if label is None else self.palette.names[label]
        return f"{shown} {known}"

    def _parts(self, parts: list[str], source: ImageMaskPairs) -> list[str]:
        given = set(parts)
        if given == {""}:
            _, test = stratified_holdout(source.strata, TEST_SHARE, self.split_seed)
            chosen = set(test.tolist())
            return ["test" if index in chosen else "train" for index in range(len(source))]
        if self.known_classes and "train" not in given:
            return parts if "test" in given else ["test"] * len(parts)
        if "train" not in given or len(given) == 1:
            missing = "train" if "train" not in given else "test, and so is val"
            raise self.error(
                f"{self.root}: the split {missing} is missing; there is {', '.join(sorted(given))}"
            )
        if "test" in given:
            return parts
        return ["test" if part == "val" else part for part in parts]
