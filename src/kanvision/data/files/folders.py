"""Finding image files in folders, one folder a class."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from kanvision.data.readers.base import Reader

from .images import FileSource
from .pillow import picture_formats
from .walk import Listing, list_files

__all__ = [
    "FolderIndex",
    "image_endings",
    "image_files",
    "list_images",
    "mask_data_files",
    "subfolders",
]


@lru_cache(maxsize=1)
def image_endings() -> frozenset[str]:
    """Return the endings of names of image files, in lower case: those of all that Pillow reads."""
    known = Image.registered_extensions()
    return frozenset(ext for ext, kind in known.items() if kind in picture_formats())


def subfolders(folder: Path) -> list[str]:
    """Names of the folders inside, sorted, without hidden ones."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())


def list_images(folder: Path, *, deep: bool = True, inside: Path | None = None) -> Listing:
    """Return the image files in a folder: any ending that Pillow reads, in upper or lower case.

    Args:
        folder: As for `list_files`.
        deep: As for `list_files`.
        inside: As for `list_files`.
    """
    listing, legal = list_files(folder, deep=deep, inside=inside), image_endings()
    files = [path for path in listing.files if os.path.splitext(path)[1].lower() in legal]
    return listing._replace(files=files)


def image_files(folder: Path) -> list[str]:
    """Image files right inside, sorted, without hidden ones."""
    return list_images(folder, deep=False).files


def mask_data_files(folder: Path) -> list[Path]:
    """Files that are read as images of data with masks, or as their masks: `image_files`, and .npy."""
    arrays = sorted(folder.glob("*.npy"))
    return [*map(Path, image_files(folder)), *(path for path in arrays if not path.name.startswith("."))]


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
        links: dict[str, str] = {}
        for name in subfolders(split):
            if name not in self.labels:
                what = f"{self._not_a_class()}; add it to the training images, or delete it"
                self.problems.append(f"{split / name}: {what}")
                continue
            listing = list_images(split / name, inside=split)
            self.problems += listing.problems
            if not (listing.files or listing.problems):
                self.problems.append(
                    f"{split / name}: class folder is empty (no file that Pillow reads); fill it or delete it"
                )
            files += listing.files
            targets += [self.labels[name]] * len(listing.files)
            links |= listing.links
        return self._source(*self._once(split, files, targets, links))

    def _once(
        self, split: Path, files: list[str], targets: list[int], links: Mapping[str, str]
    ) -> tuple[list[str], list[int]]:
        """Each file once with its class, however many links lead to it."""
        start, real = len(str(split)), os.path.realpath(split)
        first = {
            real + path[start:]: index for index, path in enumerate(files) if links and path not in links
        }
        left: set[int] = set()
        for index, path in enumerate(files) if links else ():
            other = first.setdefault(links[path], index) if path in links else index
            if other != index and targets[other] != targets[index]:
                wrong = f"is the same file as {files[other]}, which has another class"
                self.problems.append(f"{path}: {wrong}; delete one of them")
            elif other != index:
                left.add(index)
        if left:
            warnings.warn(
                f"{self.reader.info.name}: {len(left)} links lead to images of {split} that "
                f"count already, and are left out; the first is {files[min(left)]}",
                stacklevel=2,
            )
        kept = [index for index in range(len(files)) if index not in left] if left else range(len(files))
        return [files[index] for index in kept], [targets[index] for index in kept]

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
        for file in image_files(folder):
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
