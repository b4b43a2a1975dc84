"""Bases of the readers of data sets, and their rules for splits."""

from __future__ import annotations

import tarfile
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray

from kanvision.data.errors import DataError
from kanvision.data.files.download_lock import hold_download_lock
from kanvision.data.files.images import Decoding, ImageSource
from kanvision.data.files.pillow import MAX_PIXELS
from kanvision.data.files.safe_unpacking import safe_unpacking
from kanvision.data.splits.holdout import stratified_holdout
from kanvision.spec.data import EVAL_SPLITS

__all__ = [
    "DataReader",
    "DatasetInfo",
    "Reader",
    "Splits",
    "Tolerance",
    "arrange_splits",
    "find_missing_splits",
    "hold_out_test",
]


Tolerance = Literal["none", "files", "all"]
"""none: any problem is an error; files: problems of files are collected; all: those of folders too."""


@dataclass(frozen=True)
class DatasetInfo:
    """Facts about a data set for messages.

    Attributes:
        name: Name in `READERS`.
        tree: Expected files below the root, one a line.
        source: Source of the files.
    """

    name: str
    tree: str
    source: str

    def error(self, root: str | Path | None, problems: Sequence[str]) -> DataError:
        """Return the error for problems with the data in `root`."""
        folder = "null" if root is None else str(Path(root).absolute())
        return DataError.from_problems(
            name=self.name, root=folder, problems=problems, tree=self.tree, source=self.source
        )


@dataclass(frozen=True)
class Splits:
    """Splits of a data set.

    Attributes:
        class_names: Class names in the order of the targets.
        train: Training images.
        test: Test images.
        val: Validation images, if the data set has its own.
    """

    class_names: tuple[str, ...]
    train: ImageSource
    test: ImageSource
    val: ImageSource | None = None


class DataReader(ABC):
    """Base of the readers, which find a data set on disk and check it.

    Args:
        root: Folder of the data set; null for data that ship with a package.
        num_classes: Expected number of classes; null: any number.
        download: Download the data set if it is missing.
    """

    info: ClassVar[DatasetInfo]
    upright: ClassVar[bool] = True
    """Turn images upright by their EXIF orientation."""
    tolerance: Tolerance = "none"
    """Problems that do not end reading but are collected in `problems`; set it before reading."""
    known_classes: tuple[str, ...] = ()
    """Classes of a trained network in the order of its outputs, or empty; set it before reading."""
    max_pixels: int | None = MAX_PIXELS
    """Largest number of pixels of an image; None: no limit. Set it before reading."""

    def __init__(
        self, root: str | Path | None, num_classes: int | None = None, download: bool = False
    ) -> None:
        self.root = None if root is None else Path(root).expanduser()
        self.num_classes = num_classes
        self.download = download
        self.problems: list[str] = []
        self.facts: dict[str, str] = {}
        """Facts about the data for the header of a run, by name; reading fills them in."""

    @property
    def decoding(self) -> Decoding:
        """Options for decoding image files."""
        return Decoding(self.max_pixels, self.upright)

    def refuse(self, problems: Sequence[str], *, of_files: bool = False) -> None:
        """Raise an error for problems, or collect them if they are tolerated.

        Args:
            problems: Descriptions of the problems.
            of_files: The problems concern single files, without which the rest of the data can be used.

        Raises:
            DataError: If there are problems that are not tolerated.
        """
        if problems and self.tolerance != "all" and not (of_files and self.tolerance == "files"):
            raise self.error(*problems)
        self.problems += problems

    def prepare(self) -> None:
        """Download the data set if it is missing and `download` is set; call it in one process of a run only.

        Of several runs that start together, one downloads and the others wait.
        """
        if not self.download:
            return
        try:
            # a download that is not unpacked yet may look present
            with nullcontext() if self.root is None else hold_download_lock(self.root), safe_unpacking():
                if not self.present():
                    self.fetch()
        except tarfile.TarError as error:
            raise self.error(
                f"data.download=true: the archive is refused or damaged ({error}); download the data by hand"
            ) from error

    @abstractmethod
    def present(self) -> bool:
        """Return True if the files seem to exist."""

    def fetch(self) -> None:
        """Download the data set.

        Raises:
            DataError: If there is no automatic download.
        """
        raise self.error("data.download=true: this data set has no automatic download; download it by hand")

    def error(self, *problems: str) -> DataError:
        """Return the error for problems with the data."""
        return self.info.error(self.root, problems)

    def fail(self, problems: list[str]) -> DataError:
        """Return the error for a list of problems; sources hold this method, which can be pickled."""
        return self.error(*problems)

    def require_root(self) -> Path:
        """Return the root folder.

        Raises:
            DataError: If it does not exist.
        """
        if self.root is None:
            raise self.error("data.root is null; it must be the folder of the data set")
        if not self.root.is_dir():
            what = "is a file, not a folder" if self.root.exists() else "does not exist"
            can_fetch = self.can_fetch() and not self.download
            hint = (
                "; data.root must be the folder of the data" + ", data.download=true downloads it" * can_fetch
            )
            raise self.error(f"{self.root}: {what}{hint}")
        return self.root

    def can_fetch(self) -> bool:
        """Return True if the data set has an automatic download."""
        return type(self).fetch is not DataReader.fetch

    def find_class_count_problems(self, found: int) -> list[str]:
        """Return the problem of a number of classes that differs from the expected one, if it does.

        Classes that must be those of a trained network are compared by name instead.
        """
        if self.known_classes or self.num_classes in (None, found):
            return []
        return [f"data.num_classes={self.num_classes}, but the data have {found} classes; set it to {found}"]

    def find_class_problems(self, names: Sequence[str]) -> list[str]:
        """Return the problems with classes that a network does not know, or else with their number."""
        known = self.known_classes
        if not (unknown := [name for name in names if name not in known]) or not known:
            return self.find_class_count_problems(len(names))
        few = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
        return [
            f"{self.root}: the classes {', '.join(unknown)} are not among the {len(known)} that the network "
            f"was trained on ({few}); leave their images out, or rename them"
        ]


class Reader(DataReader):
    """Base of the readers of images with one class each."""

    @abstractmethod
    def read(self) -> Splits:
        """Read or index the images.

        Raises:
            DataError: If files are missing or broken, or labels or the number of classes do not fit.
        """


def find_label_problems(labels: NDArray[np.int64], num_classes: int, where: str | Path) -> list[str]:
    """Return the problem of labels outside 0 ... num_classes - 1, if there are any."""
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if not len(wrong):
        return []
    first = int(wrong[0])
    return [
        f"{where}: label {labels[first]} at index {first} ({len(wrong)} such); legal: 0 to {num_classes - 1}"
    ]


# For images without a test split; a change would move test images of existing runs into training.
_TEST_FRACTION: Final = 0.2
_TEST_SEED: Final = 0


def find_missing_splits(root: Path, present: Collection[str]) -> list[str]:
    """Return the problems of splits that are missing beside those that are present."""
    problems = []
    if "train" not in present:
        problems.append(f"{root / 'train'}: is missing, but there is {' and '.join(present)}")
    if set(present) == {"train"}:
        problems.append(
            f"{root / 'test'}: is missing, and so is val; add one of them, or remove the split "
            "folders, to have a fifth of each class held out for the test"
        )
    return problems


def arrange_splits(class_names: tuple[str, ...], parts: Mapping[str, ImageSource]) -> Splits:
    """Return the splits; without a test split, the validation split is the test."""
    held_out = [parts[name] for name in reversed(EVAL_SPLITS) if name in parts]
    return Splits(class_names, parts["train"], held_out[0], held_out[1] if len(held_out) == 2 else None)


def hold_out_test(reader: Reader, class_names: tuple[str, ...], everything: ImageSource) -> Splits:
    """Return the splits of images of which a fixed fifth of each class is the test.

    Raises:
        DataError: If no class has two images.
    """
    train, test = stratified_holdout(everything.targets, _TEST_FRACTION, _TEST_SEED)
    if not len(test):
        raise reader.error(f"{reader.root}: no class has two images, so none can be held out for the test")
    return Splits(class_names, everything.select(train), everything.select(test))
