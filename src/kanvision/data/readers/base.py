"""What every data set reader has in common."""

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
from kanvision.data.files.exclusive import one_at_a_time
from kanvision.data.files.images import Decoding, ImageSource
from kanvision.data.files.pillow import MAX_PIXELS
from kanvision.data.files.safe_extract import unpacking_safely
from kanvision.data.splits.holdout import stratified_holdout
from kanvision.spec.data import EVAL_SPLITS

__all__ = [
    "DataReader",
    "DatasetInfo",
    "Reader",
    "Splits",
    "Tolerance",
    "arrange",
    "hold_out",
    "missing_parts",
]


Tolerance = Literal["none", "files", "all"]
"""none: any problem is an error; files: bad files are gathered; all: what is wrong with folders is, too."""


@dataclass(frozen=True)
class DatasetInfo:
    """Facts about a data set for messages.

    Attributes:
        name: Name in `READERS`.
        tree: Files expected below the root, one a line.
        source: Where to get them.
    """

    name: str
    tree: str
    source: str

    def error(self, root: str | Path | None, problems: Sequence[str]) -> DataError:
        """The error that says what is wrong with the data in `root` and what would be right."""
        shown_root = "null" if root is None else str(Path(root).absolute())
        return DataError.of(
            name=self.name, root=shown_root, problems=problems, tree=self.tree, source=self.source
        )


@dataclass(frozen=True)
class Splits:
    """A data set in memory, or found on disk.

    Attributes:
        class_names: Name of each class, in the order of the targets.
        train: Images to learn from.
        test: Images for the final score.
        val: Images to choose the best checkpoint by, where the data set brings its own.
    """

    class_names: tuple[str, ...]
    train: ImageSource
    test: ImageSource
    val: ImageSource | None = None


class DataReader(ABC):
    """Finds a data set on disk; what its labels are for is up to the subclasses.

    Args:
        root: Folder on disk; null for data that ship with a package.
        num_classes: Number of classes that the user expects; null: whatever is there.
        download: Fetch the data set when it is missing.
    """

    info: ClassVar[DatasetInfo]
    upright: ClassVar[bool] = True
    """Turn images upright, as their EXIF orientation says."""
    tolerance: Tolerance = "none"
    """What reading goes on after; set it before. What is tolerated is gathered in `problems`."""
    known_classes: tuple[str, ...] = ()
    """Classes of a trained network, in the order of its outputs; set it before reading. Empty: not known."""
    max_pixels: int | None = MAX_PIXELS
    """Most pixels of an image; None: no limit. Set it before reading."""

    def __init__(
        self, root: str | Path | None, num_classes: int | None = None, download: bool = False
    ) -> None:
        self.root = None if root is None else Path(root).expanduser()
        self.num_classes = num_classes
        self.download = download
        self.problems: list[str] = []
        self.facts: dict[str, str] = {}
        """What reading found out that a run should say before it starts."""

    @property
    def decoding(self) -> Decoding:
        """Options of decoding images in files."""
        return Decoding(self.max_pixels, self.upright)

    def refuse(self, problems: Sequence[str], *, of_files: bool = False) -> None:
        """Raise an error for problems, if there are any, or gather them where they are tolerated.

        Args:
            problems: What is wrong.
            of_files: They are about single files, so that the rest of the data can be used without them.

        Raises:
            DataError: If there are problems that are not tolerated.
        """
        if problems and self.tolerance != "all" and not (of_files and self.tolerance == "files"):
            raise self.error(*problems)
        self.problems += problems

    def prepare(self) -> None:
        """Fetch the data set if it is missing and that is wanted; called in one process of a run only.

        Of several runs that start together one fetches, and the others wait.
        """
        if not self.download:
            return
        try:
            # what is only half unpacked may look present
            with nullcontext() if self.root is None else one_at_a_time(self.root), unpacking_safely():
                if not self.present():
                    self.fetch()
        except tarfile.TarError as error:
            raise self.error(
                f"data.download=true: the archive is refused or damaged ({error}); get the data by hand"
            ) from error

    @abstractmethod
    def present(self) -> bool:
        """Whether the files seem to be there."""

    def fetch(self) -> None:
        """Download the data set.

        Raises:
            DataError: If it cannot be fetched automatically.
        """
        raise self.error("data.download=true: this data set cannot be fetched automatically; get it by hand")

    def error(self, *problems: str) -> DataError:
        """The error for these problems."""
        return self.info.error(self.root, problems)

    def fail(self, problems: list[str]) -> DataError:
        """`error` as the sources call it; a method, so that loader processes can be sent it."""
        return self.error(*problems)

    def existing_root(self) -> Path:
        """The root folder.

        Raises:
            DataError: If there is none.
        """
        if self.root is None:
            raise self.error("data.root is null; it must be the folder of the data set")
        if not self.root.is_dir():
            what = "is a file, not a folder" if self.root.exists() else "does not exist"
            fetched = self.can_fetch() and not self.download
            hint = "; data.root must be the folder of the data" + ", data.download=true fetches it" * fetched
            raise self.error(f"{self.root}: {what}{hint}")
        return self.root

    def can_fetch(self) -> bool:
        """Whether the data set has an automatic download."""
        return type(self).fetch is not DataReader.fetch

    def class_count_problems(self, found: int) -> list[str]:
        """Complaint about a number of classes that differs from the user's, if it does.

        Classes that have to be those of a trained network are compared by name.
        """
        if self.known_classes or self.num_classes in (None, found):
            return []
        return [f"data.num_classes={self.num_classes}, but {found} classes are there; set it to {found}"]

    def class_problems(self, names: Sequence[str]) -> list[str]:
        """Complain about classes that the network does not know or, without one, about their number."""
        known = self.known_classes
        if not (unknown := [name for name in names if name not in known]) or not known:
            return self.class_count_problems(len(names))
        few = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
        return [
            f"{self.root}: the classes {', '.join(unknown)} are not among the {len(known)} that the network "
            f"was trained on ({few}); leave their images out, or rename them"
        ]


class Reader(DataReader):
    """Finds a data set of images with one class each, and checks it."""

    @abstractmethod
    def read(self) -> Splits:
        """Read or index the images.

        Raises:
            DataError: If files are missing or broken, or labels or the number of classes do not fit.
        """


def label_problems(labels: NDArray[np.int64], num_classes: int, where: str | Path) -> list[str]:
    """Complaint about the first label outside 0 ... num_classes - 1, if there is one."""
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if not len(wrong):
        return []
    first = int(wrong[0])
    return [
        f"{where}: label {labels[first]} at index {first} ({len(wrong)} such); legal: 0 to {num_classes - 1}"
    ]


# Of images that come without a test split; a change would move everybody's test images into training.
_TEST_FRACTION: Final = 0.2
_TEST_SEED: Final = 0


def missing_parts(root: Path, present: Collection[str]) -> list[str]:
    """Complaints about parts that are needed beside those that are present."""
    problems = []
    if "train" not in present:
        problems.append(f"{root / 'train'}: is missing, but there is {' and '.join(present)}")
    if set(present) == {"train"}:
        problems.append(
            f"{root / 'test'}: is missing, and so is val; add one of them, or name no part, "
            "to have a fifth of each class held out"
        )
    return problems


def arrange(class_names: tuple[str, ...], parts: Mapping[str, ImageSource]) -> Splits:
    """With test and val both present, val is for validation; with one of them, it is the test."""
    held_out = [parts[name] for name in reversed(EVAL_SPLITS) if name in parts]
    return Splits(class_names, parts["train"], held_out[0], held_out[1] if len(held_out) == 2 else None)


def hold_out(reader: Reader, class_names: tuple[str, ...], everything: ImageSource) -> Splits:
    """A fixed fifth of each class is the test.

    Raises:
        DataError: If no class has two images.
    """
    train, test = stratified_holdout(everything.targets, _TEST_FRACTION, _TEST_SEED)
    if not len(test):
        raise reader.error(f"{reader.root}: no class has two images, so none can be held out for the test")
    return Splits(class_names, everything.select(train), everything.select(test))
