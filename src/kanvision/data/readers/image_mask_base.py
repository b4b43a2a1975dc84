"""Base of the readers of images and masks in files, with their splits and checks."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanvision.data.errors import DataError
from kanvision.data.files.image_mask_pairs import ImageMaskPairs
from kanvision.data.files.walk import find_duplicate_links
from kanvision.data.splits.holdout import grouped_holdout
from kanvision.data.splits.published import TEST_SHARE
from kanvision.spec.data import SPLITS

from .segmentation_base import SegmentationReader, SegmentationSplits

__all__ = ["ImageMaskReader", "index_by_stem"]


class ImageMaskReader(SegmentationReader):
    """Base of the readers of images and masks in files.

    Args:
        root: Folder of the data set.
        split_file: Table with the columns name and split (train, val or test), which defines the splits;
            None: the rule of the data set.
        **options: Arguments of `SegmentationReader`.
    """

    def __init__(self, root: str | Path | None, *, split_file: str | None = None, **options: Any) -> None:
        super().__init__(root, **options)
        self.split_file = None if split_file is None else Path(split_file).expanduser()

    def check_and_split(
        self,
        source: ImageMaskPairs,
        class_names: tuple[str, ...],
        rule: Callable[[], Sequence[str]],
        *,
        problems: Sequence[str] = (),
        nonempty: Sequence[int] | None = None,
    ) -> SegmentationSplits:
        """Return the splits, after raising one error for all problems.

        Args:
            source: Source of all images.
            class_names: Class names.
            rule: Returns the split of each image if no table defines it; called after the files were checked.
            problems: Problems that are known already.
            nonempty: Indices of images whose masks must have foreground; None: all.

        Raises:
            DataError: If files cannot be used, or a split is empty.
        """
        source.max_pixels = self.max_pixels
        images: dict[str, list[Path]] = {}  # by the folder of their split
        for entry in source.entries:
            images.setdefault(entry.name.rpartition("/")[0], []).append(entry.image)
        problems = [*problems, *(text for paths in images.values() for text in find_duplicate_links(paths))]
        if not problems and not len(source):
            problems = [f"{self.root}: holds no image"]
        # With tolerance "all", the inspection reads every file itself.
        bad_files = source.find_size_problems() if self.tolerance != "all" else []
        if problems and self.tolerance != "all":
            raise self.error(*dict.fromkeys([*problems, *bad_files]))
        self.refuse(problems)
        if not len(source):
            raise self.error(*problems)
        if not bad_files and self.tolerance != "all":
            checked = source if nonempty is None else source.select(nonempty)
            bad_files, all_empty = checked.find_content_problems()
            self.refuse(all_empty)
        if "masks" not in self.facts:
            masks = [entry.masks for entry in source.entries]
            counted = self.count_mask_values(masks, source.mask.read_values)[1]
            bad_files = list(dict.fromkeys([*bad_files, *counted]))
        self.refuse(bad_files, of_files=True)
        parts = self._assign_splits(source, rule)
        chosen = {part: source.select(np.flatnonzero(parts == part)) for part in SPLITS}
        needed = ("test",) if self.known_classes else ("train", "test")
        if empty := [part for part in needed if not len(chosen[part])]:
            where = self.split_file or f"{self.root} ({len(source)} images)"
            self.refuse(
                [f"{where}: no image is left for {' and '.join(empty)}; add images or choose another split"]
            )
        return SegmentationSplits(
            class_names, chosen["train"], chosen["test"], chosen["val"] if len(chosen["val"]) else None
        )

    def _assign_splits(self, source: ImageMaskPairs, rule: Callable[[], Sequence[str]]) -> NDArray[np.str_]:
        """Return the split of each image; all are in train if problems with the splits are tolerated."""
        try:
            table = self.split_file
            return np.array(rule() if table is None else self._read_split_file(table, source.names))
        except DataError as error:
            if self.tolerance != "all":
                raise
            self.refuse(error.problems)
            return np.full(len(source), "train")

    def split_by_groups(self, source: ImageMaskPairs) -> list[str]:
        """Return train or test for each image, with a fifth of each kind in test and no group in both."""
        groups = np.arange(len(source)) if source.groups is None else source.groups
        _, test = grouped_holdout(groups, source.strata, TEST_SHARE, self.split_seed)
        parts = np.full(len(source), "train")
        parts[test] = "test"
        return [str(part) for part in parts]

    def _read_split_file(self, table: Path, names: Sequence[str]) -> list[str]:
        if not table.is_file():
            raise self.error(f"data.split_file={table}: the file does not exist")
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


def index_by_stem(paths: Iterable[Path], problems: list[str]) -> dict[str, Path]:
    """Return the files by their names without suffix; two files of one name are a problem."""
    found: dict[str, Path] = {}
    for path in paths:
        if path.stem in found:
            problems.append(f"{path}: stands beside {found[path.stem].name}; keep one of them")
        found[path.stem] = path
    return found
