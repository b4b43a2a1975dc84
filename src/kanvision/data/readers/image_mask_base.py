"""What the readers of images and masks in files share: splits, and checks before a run starts."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanvision.data.errors import DataError
from kanvision.data.files.image_mask_pairs import ImageMaskPairs
from kanvision.data.files.walk import link_problems
from kanvision.data.splits.holdout import grouped_holdout
from kanvision.data.splits.published import TEST_SHARE
from kanvision.spec.data import SPLITS

from .segmentation_base import SegmentationReader, SegmentationSplits

__all__ = ["ImageMaskReader", "natural"]


class ImageMaskReader(SegmentationReader):
    """Reader of images and masks in files.

    Args:
        root: Folder on disk.
        split_file: Table with the columns name and split (train, val or test), which then decides; None: the
            data set's own rule.
        **options: Arguments of `SegmentationReader`.
    """

    def __init__(self, root: str | Path | None, *, split_file: str | None = None, **options: Any) -> None:
        super().__init__(root, **options)
        self.split_file = None if split_file is None else Path(split_file).expanduser()

    def checked_splits(
        self,
        source: ImageMaskPairs,
        class_names: tuple[str, ...],
        rule: Callable[[], Sequence[str]],
        *,
        problems: Sequence[str] = (),
        look_at: Sequence[int] | None = None,
    ) -> SegmentationSplits:
        """The splits, after everything that is wrong has been said at once.

        Args:
            source: All images.
            class_names: Names of the classes.
            rule: Part of each image where no table decides; called when the files are known to be sound.
            problems: What is wrong already.
            look_at: Images whose masks are expected to show something; None: all.

        Raises:
            DataError: If files cannot be used, or a part is empty.
        """
        source.max_pixels = self.max_pixels
        images: dict[str, list[Path]] = {}  # of each part that the folders tell apart
        for entry in source.entries:
            images.setdefault(entry.name.rpartition("/")[0], []).append(entry.image)
        problems = [*problems, *(text for paths in images.values() for text in link_problems(paths))]
        if not problems and not len(source):
            problems = [f"{self.root}: holds no image"]
        # Who tolerates everything looks at every file.
        bad_files = source.size_problems() if self.tolerance != "all" else []
        if problems and self.tolerance != "all":
            raise self.error(*dict.fromkeys([*problems, *bad_files]))
        self.refuse(problems)
        if not len(source):
            raise self.error(*problems)
        if not bad_files and self.tolerance != "all":
            looked_at = source if look_at is None else source.select(look_at)
            bad_files, nothing_there = looked_at.content_problems()
            self.refuse(nothing_there)
        self.refuse(bad_files, of_files=True)
        parts = self._parts_of(source, rule)
        chosen = {part: source.select(np.flatnonzero(parts == part)) for part in SPLITS}
        if empty := [part for part in ("train", "test") if not len(chosen[part])]:
            where = self.split_file or f"{self.root} ({len(source)} images)"
            self.refuse(
                [f"{where}: no image is left for {' and '.join(empty)}; add images or choose another split"]
            )
        return SegmentationSplits(
            class_names, chosen["train"], chosen["test"], chosen["val"] if len(chosen["val"]) else None
        )

    def _parts_of(self, source: ImageMaskPairs, rule: Callable[[], Sequence[str]]) -> NDArray[np.str_]:
        """Part of each image; all are in train where that cannot be told and is tolerated."""
        try:
            table = self.split_file
            return np.array(rule() if table is None else self._listed(table, source.names))
        except DataError as error:
            if self.tolerance != "all":
                raise
            self.refuse(error.problems)
            return np.full(len(source), "train")

    def by_groups(self, source: ImageMaskPairs) -> list[str]:
        """Train or test: a fifth of the images of each kind, and no group straddles the parts."""
        groups = np.arange(len(source)) if source.groups is None else source.groups
        _, test = grouped_holdout(groups, source.strata, TEST_SHARE, self.split_seed)
        parts = np.full(len(source), "train")
        parts[test] = "test"
        return [str(part) for part in parts]

    def _listed(self, table: Path, names: Sequence[str]) -> list[str]:
        if not table.is_file():
            raise self.error(f"data.split_file={table}: there is no such file")
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        if not rows or not {"name", "split"} <= rows[0].keys():
            raise self.error(f"{table}: must have the columns name and split")
        listed = {row["name"]: row["split"].strip() for row in rows}
        problems = [
            f"{table}: {name} has split {part}; legal: {', '.join(SPLITS)}"
            for name, part in listed.items()
            if part not in SPLITS
        ]
        problems += [f"{table}: does not list {name}" for name in names if name not in listed]
        if problems:
            raise self.error(*problems)
        return [listed[name] for name in names]


def natural(name: str) -> tuple[tuple[int, str], ...]:
    """A key that sorts numbers by their value: 2 before 10."""
    digits = ""
    parts: list[tuple[int, str]] = []
    for sign in [*name, ""]:
        if sign.isdecimal():
            digits += sign
            continue
        if digits:
            parts.append((int(digits), ""))
            digits = ""
        parts.append((-1, sign))
    return tuple(parts)
