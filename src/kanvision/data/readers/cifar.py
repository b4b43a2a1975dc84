"""Readers of CIFAR-10 and CIFAR-100 in the "python version", pickled batches.

A pickle can run any code when it is read. The unpickler here builds only numpy arrays and plain Python
values, and refuses any other request of a file before it is executed.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from kanvision.data.files.images import ArraySource

from .base import DatasetInfo, Splits, find_label_problems
from .torchvision import TorchvisionReader

__all__ = ["CIFAR10", "CIFAR100"]


class CIFAR10(TorchvisionReader):
    """Photographs of 32 x 32 pixels in 10 classes (Krizhevsky 2009)."""

    torchvision_name = "CIFAR10"
    folder = "cifar-10-batches-py"
    batches: ClassVar[dict[str, tuple[str, ...]]] = {
        "train": tuple(f"data_batch_{i}" for i in range(1, 6)),
        "test": ("test_batch",),
    }
    labels_key: ClassVar[str] = "labels"
    meta: ClassVar[tuple[str, str]] = ("batches.meta", "label_names")  # file, key
    total: ClassVar[int] = 10
    info = DatasetInfo(
        name="cifar10",
        tree="<root>/                   or <root>/cifar-10-batches-py/\n"
        "  batches.meta\n  data_batch_1 ... data_batch_5\n  test_batch",
        source="data.download=true (checked), or the python version at "
        "https://www.cs.toronto.edu/~kriz/cifar.html; for folders of pictures use data=image_folder",
    )

    def _find_files(self, folder: Path) -> list[bool]:
        """Return for each of the expected files True if it is in a folder."""
        names = [self.meta[0], *self.batches["train"], *self.batches["test"]]
        return [(folder / name).is_file() for name in names]

    def _folder(self) -> Path | None:
        return self.find_unpacked(lambda folder: any(self._find_files(folder)))

    def present(self) -> bool:
        """Return True if all files are in one folder."""
        folder = self._folder()
        return folder is not None and all(self._find_files(folder))

    def read(self) -> Splits:
        """Read all batches into memory."""
        root = self.require_root()
        folder = self._folder()
        if folder is None:
            raise self.error(f"{root}: holds none of the files; is this the unpacked folder?")
        problems = self.find_class_count_problems(self.total)
        names = self._load(folder / self.meta[0], self._names, problems)
        parts: dict[str, list[tuple[NDArray[np.uint8], NDArray[np.int64]]]] = {"train": [], "test": []}
        for part, files in self.batches.items():
            for file in files:
                if (batch := self._load(folder / file, self._batch, problems)) is not None:
                    problems += find_label_problems(batch[1], self.total, folder / file)
                    parts[part].append(batch)
        if problems or names is None:
            raise self.error(*problems)
        pixels = {part: np.concatenate([batch[0] for batch in batches]) for part, batches in parts.items()}
        labels = {part: np.concatenate([batch[1] for batch in batches]) for part, batches in parts.items()}
        train, test = (ArraySource(pixels[part], labels[part]) for part in ("train", "test"))
        return Splits(names, train, test)

    @staticmethod
    def _load(path: Path, parse: Callable[[dict[str, Any]], Any], problems: list[str]) -> Any:
        """Return the parsed contents of a file; None, and one more problem, if it cannot be read."""
        if not path.is_file():
            problems.append(f"{path}: is missing; unpack the archive again")
            return None
        try:
            return parse(read_pickle(path))
        except ValueError as error:
            problems.append(f"{path}: {error}")
            return None

    def _names(self, content: dict[str, Any]) -> tuple[str, ...]:
        names = content.get(self.meta[1])
        if not isinstance(names, list) or len(names) != self.total:
            raise ValueError(f"must hold {self.total} names under {self.meta[1]!r}; download the file again")
        return tuple(str(name) for name in names)

    def _batch(self, content: dict[str, Any]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        data, labels = content.get("data"), content.get(self.labels_key)
        if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (3072,):
            raise ValueError("'data' must be an array of bytes with 3072 columns; download the file again")
        if not isinstance(labels, list) or not all(isinstance(label, int) for label in labels):
            raise ValueError(f"{self.labels_key!r} must be a list of whole numbers; download the file again")
        if len(labels) != len(data):
            raise ValueError(f"{len(labels)} labels for {len(data)} images; both numbers must be equal")
        planes = data.reshape(-1, 3, 32, 32)  # (N, C, H, W)
        return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), np.array(labels, dtype=np.int64)


class CIFAR100(CIFAR10):
    """Photographs of 32 x 32 pixels in 100 classes (Krizhevsky 2009), by their fine labels."""

    torchvision_name = "CIFAR100"
    folder = "cifar-100-python"
    batches: ClassVar[dict[str, tuple[str, ...]]] = {"train": ("train",), "test": ("test",)}
    labels_key = "fine_labels"
    meta = ("meta", "fine_label_names")
    total = 100
    info = DatasetInfo(
        name="cifar100",
        tree="<root>/                   or <root>/cifar-100-python/\n  meta\n  train\n  test",
        source=CIFAR10.info.source,
    )


def _encode_latin1(text: str, encoding: str) -> bytes:
    """Return encoded text, as pickles of protocol 2 rebuild bytes; other codecs are refused."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"codec {encoding!r}")
    return text.encode("latin1")


_LEGAL_GLOBALS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode_latin1,
    # Array pickles of numpy 1 and 2, and of protocols below and from 5, name different modules and functions.
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy.core.numeric", "_frombuffer"): np.empty(0).__reduce_ex__(5)[0],
    ("numpy._core.numeric", "_frombuffer"): np.empty(0).__reduce_ex__(5)[0],
}


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickler of numpy arrays and plain values only."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        try:
            return _LEGAL_GLOBALS[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module_name}.{global_name}") from None


def read_pickle(path: Path) -> dict[str, Any]:
    """Return the dictionary of a pickled batch.

    Raises:
        ValueError: If the file is truncated, holds other contents, or would run code.
    """
    with path.open("rb") as file:
        try:
            content = _ArrayUnpickler(file, encoding="latin1").load()
        except pickle.UnpicklingError as error:
            raise ValueError(
                f"is refused or broken ({error}): legal are numpy arrays and plain values, and no code; "
                "download the file again from its official source"
            ) from error
        # A damaged pickle can fail in as many ways as it has instructions.
        except Exception as error:
            raise ValueError(
                f"cannot be read ({type(error).__name__}: {error}); download the file again"
            ) from error
    if not isinstance(content, dict):
        raise ValueError(f"holds a {type(content).__name__} instead of a dictionary; download the file again")
    return content
