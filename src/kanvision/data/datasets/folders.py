"""Finding image files in folders, one folder a class."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from .pictures import picture_formats
from .reader import Reader
from .sources import FileSource

__all__ = ["FolderIndex", "image_files", "mask_data_files", "subfolders"]


@lru_cache(maxsize=1)
def _extensions() -> frozenset[str]:
    known = Image.registered_extensions()
    return frozenset(ext for ext, kind in known.items() if kind in picture_formats())


def subfolders(folder: Path) -> list[str]:
    """Names of the folders inside, sorted, without hidden ones."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())


def image_files(folder: Path, *, deep: bool = True) -> list[str]:
    """Image files inside, sorted, without hidden ones: any ending that Pillow reads, in upper or lower case.

    Args:
        folder: Where to look.
        deep: Look into folders inside it too.
    """
    legal, found = _extensions(), []
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if deep and not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in legal:
                found.append(os.path.join(place, name))
    return found


def mask_data_files(folder: Path, *, deep: bool = False) -> list[Path]:
    """Files that are read as images of data with masks, or as their masks: `image_files`, and .npy."""
    arrays = (path for path in sorted(folder.rglob("*.npy") if deep else folder.glob("*.npy")))
    return [*map(Path, image_files(folder, deep=deep)), *(p for p in arrays if not p.name.startswith("."))]


class FolderIndex:
    """Collects image files with their classes, and everything that is wrong with them.

    Args:
        reader: Reader of the data set, which makes the errors.
        labels: Class index of each legal folder name.
    """

    def __init__(self, reader: Reader, labels: Mapping[str, int]) -> None:
        self.reader = reader
        self.labels = labels
        self.problems: list[str] = []

    def by_class(self, split: Path) -> FileSource:
        """The split `split/<class>/...`; unknown and empty class folders are problems."""
        files: list[str] = []
        targets: list[int] = []
        for name in subfolders(split):
            if name not in self.labels:
                what = f"{self._not_a_class()}; add it to the training images, or delete it"
                self.problems.append(f"{split / name}: {what}")
                continue
            inside = image_files(split / name)
            if not inside:
                self.problems.append(
                    f"{split / name}: class folder is empty (no file that Pillow reads); fill it or delete it"
                )
            files += inside
            targets += [self.labels[name]] * len(inside)
        return self._source(files, targets)

    def by_list(self, folder: Path, classes: Mapping[str, str], listing: Path) -> FileSource:
        """The split of loose files `folder/<file>` with the class of each in a list.

        Args:
            folder: Where the files are.
            classes: Class name of each file name without its ending.
            listing: File that the classes come from.
        """
        files: list[str] = []
        targets: list[int] = []
        missing = dict(classes)
        for file in image_files(folder, deep=False):
            name = missing.pop(Path(file).stem, None)
            if name is None:
                self.problems.append(f"{file}: is not listed in {listing}")
            elif name not in self.labels:
                self.problems.append(f"{listing}: {Path(file).name} has class {name}, {self._not_a_class()}")
            else:
                files.append(file)
                targets.append(self.labels[name])
        if missing:
            self.problems.append(
                f"{folder / next(iter(missing))}: is missing ({len(missing)} files listed in {listing} are)"
            )
        return self._source(files, targets)

    def finish(self, *sources: FileSource) -> None:
        """Refuse all problems at once, and a split without any image."""
        is_empty = not all(len(source) for source in sources)
        if is_empty and not self.problems:
            self.problems.append(f"{self.reader.root}: a split holds no image")
        if is_empty:
            raise self.reader.error(*self.problems)
        self.reader.refuse(self.problems)

    def _not_a_class(self) -> str:
        return f"not one of the {len(self.labels)} classes ({_some(sorted(self.labels))})"

    def _source(self, files: list[str], targets: list[int]) -> FileSource:
        return FileSource(files, np.array(targets, dtype=np.int64), self.reader.fail, self.reader.decoding)


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
