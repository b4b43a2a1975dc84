"""Readers of MNIST and Fashion-MNIST in their original idx files.

Format: two zero bytes, type code 8 (uint8), number of dimensions d, then d sizes as big-endian 32-bit
integers, then the values.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from kanvision.data.files.images import ArraySource

from .base import DatasetInfo, Splits, find_label_problems
from .torchvision import TorchvisionReader

__all__ = ["MNIST", "FashionMNIST"]

_PARTS = {"train": "train", "test": "t10k"}
_KINDS = {"images": 3, "labels": 1}  # kind -> number of dimensions

_TREE = """\
<root>/                              or <root>/raw/, or <root>/{folder}/raw/
  train-images-idx3-ubyte.gz         each packed (.gz) or unpacked
  train-labels-idx1-ubyte.gz
  t10k-images-idx3-ubyte.gz
  t10k-labels-idx1-ubyte.gz"""


class MNIST(TorchvisionReader):
    """Handwritten digits, 28 x 28 gray (LeCun et al. 1998)."""

    torchvision_name = folder = "MNIST"
    class_names: ClassVar[tuple[str, ...]] = tuple("0123456789")
    info = DatasetInfo(
        name="mnist",
        tree=_TREE.format(folder=folder),
        source="data.download=true (torchvision's mirror, checked), or https://github.com/cvdfoundation/mnist",
    )

    def present(self) -> bool:
        """Return True if each file is in one of the legal folders."""
        return all(path is not None for path in self._files().values())

    def _files(self) -> dict[tuple[str, str], Path | None]:
        """Return the path of each file in one of the legal folders; None if it is missing."""
        if self.root is None:
            return dict.fromkeys(((part, kind) for part in _PARTS for kind in _KINDS), None)
        folders = [self.root, self.root / "raw", self.root / self.folder / "raw"]
        found: dict[tuple[str, str], Path | None] = {}
        for part, prefix in _PARTS.items():
            for kind, ndim in _KINDS.items():
                # Both spellings exist.
                names = [f"{prefix}-{kind}{mark}idx{ndim}-ubyte" for mark in "-."]
                paths = [folder / (name + ext) for folder in folders for name in names for ext in ("", ".gz")]
                found[part, kind] = next((path for path in paths if path.is_file()), None)
        return found

    def read(self) -> Splits:
        """Read all files into memory."""
        root = self.require_root()
        problems = self.find_class_count_problems(len(self.class_names))
        arrays: dict[tuple[str, str], NDArray[np.uint8]] = {}
        files = self._files()
        for (part, kind), path in files.items():
            if path is None:
                problems.append(f"{root}: {_PARTS[part]}-{kind}-idx{_KINDS[kind]}-ubyte[.gz] is missing")
                continue
            try:
                arrays[part, kind] = read_idx(path, _KINDS[kind])
            except ValueError as error:
                problems.append(f"{path}: {error}")
        sources = {}
        for part in _PARTS:
            if (part, "images") not in arrays or (part, "labels") not in arrays:
                continue
            pixels, labels = arrays[part, "images"], arrays[part, "labels"].astype(np.int64)
            where = files[part, "labels"]
            assert where is not None
            if len(pixels) != len(labels):
                problems.append(
                    f"{where}: {len(labels)} labels for {len(pixels)} images; both numbers must be equal"
                )
                continue
            problems += find_label_problems(labels, len(self.class_names), where)
            sources[part] = ArraySource(pixels, labels)
        if problems:
            raise self.error(*problems)
        return Splits(self.class_names, sources["train"], sources["test"])


class FashionMNIST(MNIST):
    """Articles of clothing, 28 x 28 gray (Xiao et al. 2017, arXiv 1708.07747)."""

    torchvision_name = folder = "FashionMNIST"
    class_names = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
    info = DatasetInfo(
        name="fashion_mnist",
        tree=_TREE.format(folder=folder),
        source="data.download=true (torchvision's mirror, checked), or "
        "https://github.com/zalandoresearch/fashion-mnist",
    )


def read_idx(path: Path, ndim: int) -> NDArray[np.uint8]:
    """Return the array of an idx file of bytes, compressed by gzip or not.

    Raises:
        ValueError: If the file is not an idx file, is truncated or has another number of dimensions.
    """
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"cannot be unpacked ({error}); download the file again") from error
    head = 4 + 4 * ndim
    if len(content) < head or content[:3] != b"\x00\x00\x08":
        raise ValueError("is not an idx file of bytes; download the file again")
    if content[3] != ndim:
        raise ValueError(f"has {content[3]} dimensions instead of {ndim}")
    shape = struct.unpack(f">{ndim}I", content[4:head])
    if math.prod(shape) != len(content) - head:
        raise ValueError(
            f"holds {len(content) - head} values, its header says {math.prod(shape)}; download it again"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=head).reshape(shape)
