"""Issues that an inspection finds: problems with files and their remedies."""

from __future__ import annotations

import csv
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sized
from pathlib import Path
from typing import Final, Generic, NamedTuple, TypeVar

__all__ = ["DataIssue", "InspectedSample", "Inspector", "parse_issue", "write_issues"]

Source = TypeVar("Source", bound=Sized)

REPLACE: Final = "replace the file or delete it"


class DataIssue(NamedTuple):
    """Issue with a file or a folder."""

    file: str
    wrong: str
    right: str = ""
    split: str = ""
    """train, val or test; empty if the issue is about no split or about all."""
    is_bad: bool = True
    """False for a note about an unusual file that is read correctly."""


class InspectedSample(NamedTuple):
    """Sample with its issues, and the facts that checks of the whole data set need."""

    issues: tuple[DataIssue, ...] = ()
    name: str = ""
    """File of the sample, for messages."""
    digest: bytes = b""
    """Digest of the stored image; empty if it could not be read."""
    labels: tuple[int, ...] = ()
    """Classes that the sample shows."""


class Inspector(ABC, Generic[Source]):
    """Inspector of the samples of one split.

    Args:
        source: Source of the samples.
        split: Name of the split.
    """

    def __init__(self, source: Source, split: str) -> None:
        self.source = source
        self.split = split

    def __len__(self) -> int:
        return len(self.source)

    @abstractmethod
    def inspect(self, index: int) -> InspectedSample:
        """Read one sample completely and return its issues."""


def parse_issue(problem: str, split: str = "", *, is_bad: bool = True) -> DataIssue:
    """Return the issue of a problem that a reader describes as `file: problem; remedy`."""
    file, found, rest = problem.partition(": ")
    if not found:
        return DataIssue("", problem, "", split, is_bad)
    wrong, _, right = rest.partition("; ")
    return DataIssue(file, wrong, right, split, is_bad)


def write_issues(path: Path, issues: Iterable[DataIssue]) -> None:
    """Write a table (csv) with the columns kind (bad, note), split, file, wrong, right."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["kind", "split", "file", "wrong", "right"])
        for found in issues:
            kind = "bad" if found.is_bad else "note"
            table.writerow([kind, found.split, found.file, found.wrong, found.right])
