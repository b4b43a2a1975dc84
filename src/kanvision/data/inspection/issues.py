"""What is wrong with a file, what would be right, and how bad it is."""

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
    """Something about a file, or a folder."""

    file: str
    wrong: str
    right: str = ""
    split: str = ""
    """train, val or test; empty where it is about none of them, or about all."""
    is_bad: bool = True
    """Otherwise it is merely unusual, and read as what it means."""


class InspectedSample(NamedTuple):
    """What was found out about one sample."""

    issues: tuple[DataIssue, ...] = ()
    name: str = ""
    """Its file, for messages about others."""
    digest: bytes = b""
    """Of the stored image; empty where it could not be read."""
    labels: tuple[int, ...] = ()
    """Classes that the sample shows."""


class Inspector(ABC, Generic[Source]):
    """Looks at the samples of one split.

    Args:
        source: The samples.
        split: The part of the data set that they are.
    """

    def __init__(self, source: Source, split: str) -> None:
        self.source = source
        self.split = split

    def __len__(self) -> int:
        return len(self.source)

    @abstractmethod
    def look(self, index: int) -> InspectedSample:
        """Look at one sample, all of it."""


def parse_issue(problem: str, split: str = "", *, is_bad: bool = True) -> DataIssue:
    """A problem as readers word it (`file: what is wrong; what would be right`) as a finding."""
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
