"""Reader of the handwritten digits in scikit-learn, which need no file and no network."""

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

# scikit-learn defines no test split. This split is our own and must not change, because scores depend on it.
_TEST_FRACTION = 0.2
_TEST_SEED = 0


class Digits(Reader):
    """1,797 scans of 8 x 8 pixels (Alpaydin and Kaynak 1998, UCI).

    A fixed fifth of each class is the test. The 17 gray levels of the original are scaled to 0 ... 255.
    """

    info = DatasetInfo(
        name="digits",
        tree="(no files: set data.root=null)",
        source="inside scikit-learn; reinstall it if it is broken",
    )

    def present(self) -> bool:
        """Return True, because scikit-learn is a dependency."""
        return True

    def read(self) -> Splits:
        """Load the scans from scikit-learn and split them."""
        if self.root is not None:
            warnings.warn(
                f"data.root={self.root} has no effect on digits, which ship with scikit-learn", stacklevel=2
            )
        if problems := self.find_class_count_problems(10):
            raise self.error(*problems)
        table = self._table()
        pixels = (table[:, :-1].reshape(-1, 8, 8) * 255 / 16 + 0.5).astype(np.uint8)
        everything = ArraySource(pixels, table[:, -1].astype(np.int64))
        train, test = stratified_holdout(everything.targets, _TEST_FRACTION, _TEST_SEED)
        names = tuple(str(digit) for digit in range(10))
        return Splits(names, everything.select(train), everything.select(test))

    def _table(self) -> NDArray[np.float64]:
        """Return the table, (1797, 65), with the gray levels of an image and its class in each row.

        The file is read as scikit-learn reads it, because importing that package takes seconds.
        """
        package = importlib.util.find_spec("sklearn")
        locations = package.submodule_search_locations if package is not None else None
        path = Path((locations or ["sklearn"])[0], "datasets", "data", "digits.csv.gz")
        if not path.is_file():
            raise self.error(f"{path}: is missing")
        return np.loadtxt(path, delimiter=",")
