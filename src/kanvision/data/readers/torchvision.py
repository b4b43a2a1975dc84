"""Data sets that torchvision knows how to fetch, read from the same files, and MATLAB's files in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .base import Reader

__all__ = ["FetchedReader", "mat_vector", "read_mat"]


class FetchedReader(Reader):
    """A data set with a class of its own in torchvision, which downloads and compares checksums.

    Reading is ours, so that a broken file is named and a part of the data will do.
    """

    torchvision_name: ClassVar[str]
    fetched_splits: ClassVar[tuple[str, ...]] = ()
    """Splits that have to be asked for one by one; none: all come at once."""
    folder: ClassVar[str] = ""
    """What the archive unpacks to, below the root."""

    def fetch(self) -> None:
        """Download through torchvision."""
        from torchvision import datasets

        assert self.root is not None
        try:
            for options in [{"split": split} for split in self.fetched_splits] or [{}]:
                getattr(datasets, self.torchvision_name)(root=self.root, download=True, **options)
        except (OSError, RuntimeError) as error:
            raise self.error(f"data.download=true failed: {error}") from error

    def unpacked(self, is_there: Callable[[Path], bool]) -> Path | None:
        """The root, or the folder below it: the first one of which this is true."""
        candidates = [] if self.root is None else [self.root, self.root / self.folder]
        return next(filter(is_there, candidates), None)


def read_mat(path: Path) -> dict[str, Any]:
    """The arrays of a MATLAB file by name.

    Raises:
        ValueError: If it is missing, cut short or no such file.
    """
    from scipy.io import loadmat

    if not path.is_file():
        raise ValueError("is missing")
    try:
        return dict(loadmat(str(path)))
    # A damaged file can fail in as many ways as it has fields.
    except Exception as error:
        raise ValueError(
            f"is no MATLAB file or damaged ({type(error).__name__}: {error}); get it again"
        ) from error


def mat_vector(content: dict[str, Any], name: str) -> NDArray[np.int64]:
    """Whole numbers of a MATLAB file, which knows no arrays of one dimension.

    Raises:
        ValueError: If they are not there or no whole numbers.
    """
    values = np.asarray(content.get(name, [])).reshape(-1)
    if (
        not len(values)
        or values.dtype.kind not in "iuf"
        or not np.array_equal(values, values.astype(np.int64))
    ):
        raise ValueError(f"{name!r} must hold whole numbers; get the file again")
    return values.astype(np.int64)
