"""Your own images with masks."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from kanvision.data.splits import stratified_holdout

from .folders import mask_data_files, subfolders
from .masked_files import BinaryMask, Entry, ImageFile, IndexMask, MaskedFiles, MaskFile, MaskPlanes
from .masked_folder import MaskedFolderReader, natural
from .masks import SegmentationSplits
from .pictures import pixel_limit
from .pixels import FileError, label_values
from .published import TEST_SHARE
from .reader import DatasetInfo

__all__ = ["SegmentationFolder"]

IMAGES = "images"
SPLITS = ("train", "val", "test")


class SegmentationFolder(MaskedFolderReader):
    """An image and its mask have the same name, whatever their endings.

    With train/, val/ and test/, val/ is used for validation; with train/ and one of the others, that one is
    the test. Without them, a fixed fifth of the images is the test.

    Args:
        root: The folder.
        mode: binary: foreground or not; multiclass: masks hold the class of each pixel; multilabel: one
            folder of masks a class.
        mask_folder: Name of the folder of the masks.
        mask_suffix: What the name of a mask has behind that of its image, for example _mask.
        threshold: For binary and multilabel: grey level (0 to 255) above which a pixel is foreground; 0:
            every stored value but zero.
        bands: Bands of an image to use, counted from 1; None: all.
        ignore_index: Stored value of pixels that neither train nor count, as it is in batches; None: all do.
        **options: Arguments of `MaskedFolderReader`.
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
        mode: Literal["binary", "multiclass", "multilabel"] = "binary",
        mask_folder: str = "masks",
        mask_suffix: str = "",
        threshold: int = 0,
        bands: Sequence[int] | None = None,
        ignore_index: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(root, **options)
        self.mode = mode
        self.mask_folder = mask_folder
        self.mask_suffix = mask_suffix
        self.threshold = threshold
        self.bands = None if bands is None else tuple(bands)
        self.ignore_index = ignore_index

    def read(self) -> SegmentationSplits:
        """Index all images, compare the sizes of images and masks, and split."""
        root, problems = self.existing_root(), list[str]()
        places = self._places(root)
        classes: list[str] | None = None
        entries: list[Entry] = []
        parts: list[str] = []
        for split, images, masks in places:
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
        source = MaskedFiles(entries, ImageFile(self.in_chans, self.max_value, self.bands), mask, self.fail)
        return self.checked_splits(source, class_names, lambda: self._parts(parts, source), problems=problems)

    def _places(self, root: Path) -> list[tuple[str, Path, Path]]:
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
        """How masks are read, and the names of the classes."""
        if self.mode == "binary":
            return BinaryMask(self.threshold, self.ignore_index), self.foreground_names("foreground")
        if self.mode == "multilabel":
            problems += self.class_count_problems(len(folders)) if folders else []
            return MaskPlanes(self.threshold, self.ignore_index), tuple(folders)
        count = self.num_classes
        if count is None and not problems:
            with ThreadPoolExecutor() as pool:
                found = list(pool.map(self._largest_label, (entry.masks[0] for entry in entries)))
            labels = [label for label in found if isinstance(label, int)]
            bad_files = [problem for problem in found if isinstance(problem, str)]
            if self.tolerance == "none" or not labels:  # else they are found again, and counted, when read
                problems += bad_files
            count = 1 + max(labels, default=0)
        return IndexMask(count, self.ignore_index), (
            "background",
            *(f"class_{label}" for label in range(1, count or 1)),
        )

    def _largest_label(self, path: Path) -> int | str:
        """The largest label, or why the file cannot be used."""
        try:
            with pixel_limit(self.max_pixels):
                labels = label_values(path)
        except FileError as problem:
            return str(problem)
        return int(labels.max(initial=0, where=labels != self.ignore_index))

    def _parts(self, parts: list[str], source: MaskedFiles) -> list[str]:
        given = set(parts)
        if given == {""}:
            _, test = stratified_holdout(source.strata, TEST_SHARE, self.split_seed)
            chosen = set(test.tolist())
            return ["test" if place in chosen else "train" for place in range(len(source))]
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
