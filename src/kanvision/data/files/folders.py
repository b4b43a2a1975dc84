"""Lists of image files in folders, with one folder for each class."""

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
from .pillow import list_formats
from .walk import Listing, list_files

__all__ = [
    "FolderIndex",
    "list_image_and_array_files",
    "list_image_files",
    "list_image_suffixes",
    "list_images",
    "list_subfolders",
]


@lru_cache(maxsize=1)
def list_image_suffixes() -> frozenset[str]:
    """Return the suffixes of image files that Pillow reads, in lower case."""
    known = Image.registered_extensions()
    return frozenset(ext for ext, kind in known.items() if kind in list_formats())


def list_subfolders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted and without hidden ones."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())


def list_images(folder: Path, *, deep: bool = True, inside: Path | None = None) -> Listing:
    """Return the image files in a folder, with any suffix that Pillow reads in upper or lower case.

    Args:
        folder: The folder.
        deep: List the folders in it too.
        inside: A folder around it, to which no link may lead either.
    """
    listing, legal = list_files(folder, deep=deep, inside=inside), list_image_suffixes()
    files = [path for path in listing.files if os.path.splitext(path)[1].lower() in legal]
    return listing._replace(files=files)


def list_image_files(folder: Path) -> list[str]:
    """Return the image files directly in a folder, sorted and without hidden ones."""
    return list_images(folder, deep=False).files


def list_image_and_array_files(folder: Path) -> list[Path]:
    """Return the files in a folder that segmentation reads, which are image files and .npy arrays."""
    arrays = sorted(folder.glob("*.npy"))
    return [*map(Path, list_image_files(folder)), *(path for path in arrays if not path.name.startswith("."))]


class FolderIndex:
    """Index of image files with their classes, and of all problems with them.

    Args:
        reader: Reader of the data set, which builds the errors.
        labels: Label of each legal folder name.
    """

    def __init__(self, reader: Reader, labels: Mapping[str, int]) -> None:
        self.reader = reader
        self.labels = labels
        self.problems: list[str] = []

    def index_class_folders(self, split: Path) -> FileSource:
        """Return the images in `split/<class>/...`; unknown and empty class folders are problems."""
        files: list[str] = []
        targets: list[int] = []
        links: dict[str, str] = {}
        for name in list_subfolders(split):
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
        return self._source(*self._drop_repeated(split, files, targets, links))

    def _drop_repeated(
        self, split: Path, files: list[str], targets: list[int], links: Mapping[str, str]
    ) -> tuple[list[str], list[int]]:
        """Return the files and labels without those that a link repeats."""
        start, real = len(str(split)), os.path.realpath(split)
        first = {
            real + path[start:]: index for index, path in enumerate(files) if links and path not in links
        }
        repeated: set[int] = set()
        for index, path in enumerate(files) if links else ():
            other = first.setdefault(links[path], index) if path in links else index
            if other != index and targets[other] != targets[index]:
                wrong = f"is the same file as {files[other]}, which has another class"
                self.problems.append(f"{path}: {wrong}; delete one of them")
            elif other != index:
                repeated.add(index)
        if repeated:
            warnings.warn(
                f"{self.reader.info.name}: {len(repeated)} links lead to images of {split} that "
                f"are listed already, and are skipped; the first is {files[min(repeated)]}",
                stacklevel=2,
            )
        kept = [index for index in range(len(files)) if index not in repeated]
        return [files[index] for index in kept], [targets[index] for index in kept]

    def index_listed_files(self, folder: Path, classes: Mapping[str, str], listing: Path) -> FileSource:
        """Return the images `folder/<file>`, whose classes are in a list.

        Args:
            folder: Folder of the files.
            classes: Class name of each file name without its suffix.
            listing: File that lists the classes.
        """
        files: list[str] = []
        targets: list[int] = []
        missing = dict(classes)
        for file in list_image_files(folder):
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

    def check(self, *sources: FileSource) -> None:
        """Refuse all problems at once, and a split without images."""
        is_empty = not all(len(source) for source in sources)
        if is_empty and not self.problems:
            self.problems.append(f"{self.reader.root}: a split holds no image")
        if is_empty:
            raise self.reader.error(*self.problems)
        self.reader.refuse(self.problems)

    def _not_a_class(self) -> str:
        return f"not one of the {len(self.labels)} classes ({_abbreviate(sorted(self.labels))})"

    def _source(self, files: list[str], targets: list[int]) -> FileSource:
        return FileSource(files, np.array(targets, dtype=np.int64), self.reader.fail, self.reader.decoding)


def _abbreviate(names: Sequence[str], count: int = 5) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
