"""Reader of Street View House Numbers, cropped digits in MATLAB files."""

from __future__ import annotations

import numpy as np

from kanvision.data.files.images import ArraySource

from .base import DatasetInfo, Splits, find_label_problems
from .torchvision import TorchvisionReader, read_mat, read_mat_vector

__all__ = ["SVHN"]

_NUM_CLASSES = 10


class SVHN(TorchvisionReader):
    """Digits of house numbers, 32 x 32 color (Netzer et al. 2011); the extra images are not used."""

    torchvision_name = "SVHN"
    download_splits = ("train", "test")
    info = DatasetInfo(
        name="svhn",
        tree="<root>/\n  train_32x32.mat\n  test_32x32.mat",
        source="data.download=true (checked), or format 2 at http://ufldl.stanford.edu/housenumbers",
    )

    def present(self) -> bool:
        """Return True if both files exist."""
        return self.root is not None and all(
            (self.root / f"{part}_32x32.mat").is_file() for part in self.download_splits
        )

    def read(self) -> Splits:
        """Read both files into memory."""
        root = self.require_root()
        problems = self.find_class_count_problems(_NUM_CLASSES)
        sources = {}
        for part in self.download_splits:
            path = root / f"{part}_32x32.mat"
            try:
                content = read_mat(path)
                labels, pixels = read_mat_vector(content, "y"), content.get("X")
                if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 4:
                    raise ValueError("'X' must be bytes (height, width, 3, images); download the file again")
                if pixels.shape[-1] != len(labels):
                    raise ValueError(
                        f"{len(labels)} labels for {pixels.shape[-1]} images; both numbers must be equal"
                    )
            except ValueError as error:
                problems.append(f"{path}: {error}")
                continue
            labels = np.where(labels == 10, 0, labels)  # digit 0 is stored as 10
            problems += find_label_problems(labels, _NUM_CLASSES, path)
            sources[part] = ArraySource(
                np.ascontiguousarray(pixels.transpose(3, 0, 1, 2)), labels
            )  # (N, H, W, C)
        if problems:
            raise self.error(*problems)
        return Splits(tuple("0123456789"), sources["train"], sources["test"])
