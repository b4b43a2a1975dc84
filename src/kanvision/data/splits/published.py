"""Random splits of publications, as tables that ship with the package.

U-KAN (Li et al. 2025, arXiv 2406.02918) and papers before it sort the names of all images and give a fifth to
the test by scikit-learn's `train_test_split(test_size=0.2, random_state=seed)`, with the seeds 2981, 6142 and
1187. Its test images also choose the epoch.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["TEST_SHARE", "published_names", "published_parts", "random_parts"]

TEST_SHARE: Final = 0.2
FOLDER: Final = Path(__file__).parent / "published"


def published_names(dataset: str) -> tuple[str, ...]:
    """Names of all images of the whole data set, sorted as texts."""
    return tuple(row["name"] for row in _table(dataset))


def published_parts(dataset: str, names: Sequence[str], seed: int) -> list[str]:
    """Train or test for each image.

    Where all names are official ones, the whole data set is split, so that an image keeps its part however
    many of the others are on disk. Other names are split among themselves.

    Args:
        dataset: Data set with a table: busi, glas or cvc.
        names: Names of the images that are there.
        seed: Any number; those of the paper are read from the table.
    """
    rows = _table(dataset)
    official = {row["name"]: row.get(str(seed)) for row in rows}
    if not set(names) <= set(official):
        return random_parts(names, seed)
    if any(part is None for part in official.values()):
        everything = list(official)
        official = dict(zip(everything, random_parts(everything, seed), strict=True))
    return [str(official[name]) for name in names]


def random_parts(names: Sequence[str], seed: int) -> list[str]:
    """Train or test for each image by the papers' rule."""
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
