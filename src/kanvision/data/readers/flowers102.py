"""Reader of Oxford Flowers 102."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanvision.data.files.images import FileSource

from .base import DatasetInfo, Splits, find_label_problems
from .torchvision import TorchvisionReader, read_mat, read_mat_vector

__all__ = ["Flowers102"]

_NUM_CLASSES = 102


class Flowers102(TorchvisionReader):
    """Photographs of flowers in 102 classes (Nilsback and Zisserman 2008).

    The official training and validation images, 2,040 together, are the training split, as is usual in
    transfer learning; `data.val_fraction` holds some of them out. The other 6,149 are the test.
    """

    torchvision_name = "Flowers102"
    download_splits = ("train",)  # downloads all splits
    folder = "flowers-102"
    info = DatasetInfo(
        name="flowers102",
        tree="<root>/                   or <root>/flowers-102/\n"
        "  imagelabels.mat\n  setid.mat\n  jpg/image_00001.jpg ... image_08189.jpg",
        source="data.download=true (checked), or https://www.robots.ox.ac.uk/~vgg/data/flowers/102",
    )

    def _folder(self) -> Path | None:
        return self.find_unpacked(lambda folder: (folder / "jpg").is_dir())

    def present(self) -> bool:
        """Return True if the folder of the images exists."""
        return self._folder() is not None

    def read(self) -> Splits:
        """Index the images and read both tables."""
        root = self.require_root()
        folder = self._folder()
        if folder is None:
            raise self.error(f"{root}: holds no folder jpg; is this the unpacked folder?")
        problems = self.find_class_count_problems(_NUM_CLASSES)
        tables: dict[str, dict[str, Any]] = {}
        for name in ("imagelabels", "setid"):
            try:
                tables[name] = read_mat(folder / f"{name}.mat")
            except ValueError as error:
                problems.append(f"{folder / f'{name}.mat'}: {error}")
        if problems:
            raise self.error(*problems)
        try:
            labels = read_mat_vector(tables["imagelabels"], "labels") - 1
            parts = {
                "train": np.concatenate(
                    [read_mat_vector(tables["setid"], key) for key in ("trnid", "valid")]
                ),
                "test": read_mat_vector(tables["setid"], "tstid"),
            }
        except ValueError as error:
            raise self.error(f"{folder}: {error}") from error
        problems += find_label_problems(labels, _NUM_CLASSES, folder / "imagelabels.mat")
        sources = {name: self._source(folder, numbers, labels, problems) for name, numbers in parts.items()}
        if problems:
            raise self.error(*problems)
        from torchvision.datasets import Flowers102 as Known

        return Splits(tuple(Known.classes), sources["train"], sources["test"])

    def _source(
        self, folder: Path, numbers: NDArray[np.int64], labels: NDArray[np.int64], problems: list[str]
    ) -> FileSource:
        """Return the source of images by their numbers, which count from 1."""
        if numbers.min() < 1 or numbers.max() > len(labels):
            problems.append(
                f"{folder / 'setid.mat'}: names image {numbers.max()}, but there are {len(labels)} labels"
            )
            numbers = numbers[:0]
        files = [folder / "jpg" / f"image_{number:05d}.jpg" for number in numbers]
        if missing := [path for path in files if not path.is_file()]:
            problems.append(f"{missing[0]}: is missing ({len(missing)} such)")
        return FileSource([str(path) for path in files], labels[numbers - 1], self.fail, self.decoding)
