"""Reader of your own images whose classes are in a table."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from kanvision.data.files.images import FileSource
from kanvision.spec.data import SPLITS

from .base import DatasetInfo, Reader, Splits, arrange_splits, find_missing_splits, hold_out_test

__all__ = ["ImageTable"]

TABLE = "labels.csv"
MOST_BYTES = 500_000_000
Row = Mapping[str, str]


class ImageTable(Reader):
    """Images whose classes are in `labels.csv`, with the columns file, label and optionally split.

    Files are paths below the root; the classes are the labels, in alphabetical order. With a column split
    (train, val, test), the rules of `ImageFolder` hold; without it, a fixed fifth of each class is the test.
    """

    info = DatasetInfo(
        name="image_table",
        tree=f"<root>/{TABLE}     with the columns file, label and optionally split (train, val, test)\n"
        "<root>/<file>     for each row, in any folder below the root",
        source="your own pictures",
    )

    def present(self) -> bool:
        """Return True if the table exists."""
        return self.root is not None and (self.root / TABLE).is_file()

    def read(self) -> Splits:
        """Read the table, and check that its files exist."""
        root = self.require_root()
        rows = self._rows(root / TABLE)
        names = tuple(sorted({row["label"] for row in rows}))
        problems = [*self._row_problems(root, rows), *self.find_class_problems(names)]
        parts = {name: [row for row in rows if row.get("split") == name] for name in SPLITS}
        parts = {name: part for name, part in parts.items() if part}
        has_splits = "split" in rows[0]
        if has_splits:
            problems += find_missing_splits(root, parts)
        if problems:
            raise self.error(*problems)
        if not has_splits:
            return hold_out_test(self, names, self._source(root, rows, names))
        return arrange_splits(names, {name: self._source(root, part, names) for name, part in parts.items()})

    def _rows(self, path: Path) -> list[Row]:
        if not path.is_file():
            raise self.error(f"{path}: is missing")
        if path.stat().st_size > MOST_BYTES:
            raise self.error(f"{path}: is larger than {MOST_BYTES:,} bytes, so it is no table of labels")
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                table = csv.DictReader(file)
                columns = [name for name in ("file", "label") if name not in (table.fieldnames or ())]
                rows: list[Row] = [
                    {str(key): str(value or "").strip() for key, value in row.items()} for row in table
                ]
        except (UnicodeDecodeError, csv.Error) as error:
            raise self.error(f"{path}: is no csv file in UTF-8 ({error})") from error
        if columns:
            raise self.error(f"{path}: has no column {' and '.join(columns)}; separate columns by commas")
        if not rows:
            raise self.error(f"{path}: has no rows")
        return rows

    def _row_problems(self, root: Path, rows: Sequence[Row]) -> list[str]:
        """Return the problems with rows, whose line in the file is their position plus 2."""
        problems, inside = [], root.resolve()
        repeated = {file for file, count in Counter(row["file"] for row in rows).items() if count > 1}
        for line, row in enumerate(rows, 2):
            where = f"{root / TABLE}, line {line}"
            path = root / row["file"]
            if not row["file"] or not row["label"]:
                problems.append(f"{where}: file and label must not be empty")
            elif not path.resolve().is_relative_to(inside):
                problems.append(f"{where}: {row['file']} is not below the root")
            elif not path.is_file():
                problems.append(f"{where}: {path} is missing")
            elif row["file"] in repeated:
                problems.append(f"{where}: {row['file']} is listed more than once; an image has one class")
            if "split" in row and row["split"] not in SPLITS:
                problems.append(f"{where}: split={row['split']} is unknown; legal: {', '.join(SPLITS)}")
        return problems

    def _source(self, root: Path, rows: Sequence[Row], names: Sequence[str]) -> FileSource:
        labels = {name: label for label, name in enumerate(names)}
        targets = np.array([labels[row["label"]] for row in rows], np.int64)
        return FileSource([str(root / row["file"]) for row in rows], targets, self.fail, self.decoding)
