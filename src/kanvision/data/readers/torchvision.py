"""Base of the readers of data sets that torchvision downloads, and readers of MATLAB files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .base import Reader

__all__ = ["TorchvisionReader", "read_mat", "read_mat_vector"]


class TorchvisionReader(Reader):
    """Reader of a data set that torchvision downloads and compares with checksums.

    Reading is our own, so that errors name a broken file, and unused parts of the data may be missing.
    """

    torchvision_name: ClassVar[str]
    download_splits: ClassVar[tuple[str, ...]] = ()
    """Splits to download one by one; empty: one download holds all."""
    folder: ClassVar[str] = ""
    """Folder below the root to which the archive unpacks."""

    def fetch(self) -> None:
        """Download through torchvision."""
        from torchvision import datasets

        assert self.root is not None
        try:
            for options in [{"split": split} for split in self.download_splits] or [{}]:
                getattr(datasets, self.torchvision_name)(root=self.root, download=True, **options)
        except (OSError, RuntimeError) as error:
            raise self.error(f"data.download=true failed: {error}") from error

    def find_unpacked(self, is_unpacked: Callable[[Path], bool]) -> Path | None:
        """Return the first of the root and the folder below it that passes a test."""
        folders = [] if self.root is None else [self.root, self.root / self.folder]
        return next(filter(is_unpacked, folders), None)


def read_mat(path: Path) -> dict[str, Any]:
    """Return the arrays of a MATLAB file by name.

    Raises:
        ValueError: If the file is missing, truncated or not a MATLAB file.
    """
    from scipy.io import loadmat

    if not path.is_file():
        raise ValueError("is missing")
    try:
        return dict(loadmat(str(path)))
    # A damaged file can fail in as many ways as it has fields.
    except Exception as error:
        raise ValueError(
            f"is not a MATLAB file or is damaged ({type(error).__name__}: {error}); download it again"
        ) from error


def read_mat_vector(content: dict[str, Any], name: str) -> NDArray[np.int64]:
    """Return an array of whole numbers of a MATLAB file, flattened to (N,).

    Raises:
        ValueError: If the array is missing or does not hold whole numbers.
    """
    values = np.asarray(content.get(name, [])).reshape(-1)
    if (
        not len(values)
        or values.dtype.kind not in "iuf"
        or not np.array_equal(values, values.astype(np.int64))
    ):
        raise ValueError(f"{name!r} must hold whole numbers; download the file again")
    return values.astype(np.int64)
