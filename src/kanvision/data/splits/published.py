"""Published random splits, in tables that ship with the package.

U-KAN (Li et al. 2025, arXiv 2406.02918) and earlier papers sort the names of all images and hold out a fifth
as the test by scikit-learn's `train_test_split(test_size=0.2, random_state=seed)`, with the seeds 2981, 6142
and 1187. Its test images also choose the epoch.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["TEST_SHARE", "assign_published_splits", "assign_random_splits", "load_published_names"]

TEST_SHARE: Final = 0.2
FOLDER: Final = Path(__file__).parent / "published"


def load_published_names(dataset: str) -> tuple[str, ...]:
    """Return the names of all images of a whole data set, in alphabetical order."""
    return tuple(row["name"] for row in _table(dataset))


def assign_published_splits(dataset: str, names: Sequence[str], seed: int) -> list[str]:
    """Return train or test for each image.

    If all names are official, the whole data set is split, so that an image keeps its split if other images
    are missing on disk. Otherwise the given names are split.

    Args:
        dataset: Name of a data set with a table: busi, glas or cvc.
        names: Names of the present images.
        seed: Seed of the split; those of the paper are in the table.
    """
    rows = _table(dataset)
    official = {row["name"]: row.get(str(seed)) for row in rows}
    if not set(names) <= set(official):
        return assign_random_splits(names, seed)
    if any(part is None for part in official.values()):
        everything = list(official)
        official = dict(zip(everything, assign_random_splits(everything, seed), strict=True))
    return [str(official[name]) for name in names]


def assign_random_splits(names: Sequence[str], seed: int) -> list[str]:
    """Return train or test for each image by the rule of the papers."""
    if len(names) < 2:
        return ["train"] * len(names)
    from sklearn.model_selection import train_test_split

    _, test = train_test_split(sorted(names), test_size=TEST_SHARE, random_state=seed)
    chosen = set(test)
    return ["test" if name in chosen else "train" for name in names]


@cache
def _table(dataset: str) -> list[dict[str, str]]:
    with (FOLDER / f"{dataset}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
