"""Reader of STL-10 in its binary files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kanvision.data.files.images import ArraySource

from .base import DatasetInfo, Splits, find_label_problems
from .torchvision import TorchvisionReader

__all__ = ["STL10"]

_SIDE = 96
_CLASS_NAMES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")


class STL10(TorchvisionReader):
    """Photographs of 96 x 96 pixels in 10 classes, 5,000 and 8,000 with labels (Coates et al. 2011).

    The 100,000 images without labels are not used.
    """

    torchvision_name = "STL10"
    download_splits = ("train",)  # downloads all splits
    folder = "stl10_binary"
    info = DatasetInfo(
        name="stl10",
        tree="<root>/                   or <root>/stl10_binary/\n"
        "  train_X.bin  train_y.bin\n  test_X.bin   test_y.bin",
        source="data.download=true (checked), or https://cs.stanford.edu/~acoates/stl10 (binary files)",
    )

    def _folder(self) -> Path | None:
        return self.find_unpacked(lambda folder: (folder / "train_X.bin").is_file())

    def present(self) -> bool:
        """Return True if the file of the training images exists."""
        return self._folder() is not None

    def read(self) -> Splits:
        """Read all files into memory."""
        root = self.require_root()
        folder = self._folder()
        if folder is None:
            raise self.error(f"{root}: holds no train_X.bin; is this the unpacked folder?")
        problems = self.find_class_count_problems(len(_CLASS_NAMES))
        sources = {}
        for part in ("train", "test"):
            try:
                pixels, labels = _read(folder, part)
            except ValueError as error:
                problems.append(str(error))
                continue
            problems += find_label_problems(labels, len(_CLASS_NAMES), folder / f"{part}_y.bin")
            sources[part] = ArraySource(pixels, labels)
        if problems:
            raise self.error(*problems)
        return Splits(_CLASS_NAMES, sources["train"], sources["test"])


def _read(folder: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the images, (N, H, W, C), and their classes, (N,), which are stored from 1 on."""
    arrays = []
    for kind in "Xy":
        path = folder / f"{part}_{kind}.bin"
        if not path.is_file():
            raise ValueError(f"{path}: is missing")
        arrays.append(np.fromfile(path, np.uint8))
    pixels, labels = arrays
    size = 3 * _SIDE * _SIDE
    if len(pixels) != size * len(labels):
        raise ValueError(
            f"{folder / f'{part}_X.bin'}: holds {len(pixels)} bytes, but {len(labels)} labels need "
            f"{size * len(labels)}; download the file again"
        )
    planes = pixels.reshape(-1, 3, _SIDE, _SIDE)  # (N, C, W, H): column by column
    return np.ascontiguousarray(planes.transpose(0, 3, 2, 1)), labels.astype(np.int64) - 1
