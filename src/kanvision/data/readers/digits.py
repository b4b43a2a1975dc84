"""Handwritten digits that ship inside scikit-learn: a real data set that needs no file and no network."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kanvision.data.files.images import ArraySource
from kanvision.data.splits.holdout import stratified_holdout

from .base import DatasetInfo, Reader, Splits

__all__ = ["Digits"]

# scikit-learn defines no test split. This rule is ours and must never change: scores depend on it.
_TEST_FRACTION = 0.2
_TEST_SEED = 0


class Digits(Reader):
    """1,797 scans of 8 x 8 pixels (Alpaydin and Kaynak 1998, UCI).

    A fixed rule takes a fifth of each class for the test. The 17 gray levels of the original are stretched to
    0 ... 255.
    """

    info = DatasetInfo(
        name="digits",
        tree="(no files: set data.root=null)",
        source="inside scikit-learn; reinstall it if it is broken",
    )

    def present(self) -> bool:
        """Always: scikit-learn is a dependency."""
        return True

    def read(self) -> Splits:
        """Load the scans from scikit-learn and split them."""
        if self.root is not None:
            warnings.warn(
                f"data.root={self.root} has no effect on digits, which ship with scikit-learn", stacklevel=2
            )
        if problems := self.class_count_problems(10):
            raise self.error(*problems)
        table = self._table()
        pixels = (table[:, :-1].reshape(-1, 8, 8) * 255 / 16 + 0.5).astype(np.uint8)
        everything = ArraySource(pixels, table[:, -1].astype(np.int64))
        train, test = stratified_holdout(everything.targets, _TEST_FRACTION, _TEST_SEED)
        names = tuple(str(digit) for digit in range(10))
        return Splits(names, everything.select(train), everything.select(test))

    def _table(self) -> NDArray[np.float64]:
        """Return (1797, 65), gray levels of an image and its class in each row.

        The file is read as scikit-learn reads it; importing that package for one table would take longer than
        many trainings.
        """
        package = importlib.util.find_spec("sklearn")
        locations = package.submodule_search_locations if package is not None else None
        path = Path((locations or ["sklearn"])[0], "datasets", "data", "digits.csv.gz")
        if not path.is_file():
            raise self.error(f"{path}: is missing")
        return np.loadtxt(path, delimiter=",")
