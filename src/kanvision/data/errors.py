"""The one error that all data readers raise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_MAX_LISTED: Final = 10


class DataError(ValueError):
    """A data set is missing, incomplete or broken.

    The message alone is the state: an exception must be rebuilt from one string to travel out of a loader
    process.

    Attributes:
        problems: What is wrong, one text a problem, in the process that has found it; empty elsewhere.
    """

    problems: tuple[str, ...] = ()

    @classmethod
    def of(cls, *, name: str, root: str, problems: Sequence[str], tree: str, source: str) -> DataError:
        """The error with everything that a user needs to put the data right.

        Args:
            name: Data set, as in `data=<name>`.
            root: Folder that was searched.
            problems: What is wrong, the first offending file first; each says what would be right.
            tree: Expected files, one a line.
            source: Where to get the data.
        """
        listed = [f"  - {problem}" for problem in problems[:_MAX_LISTED]]
        if len(problems) > _MAX_LISTED:
            listed.append(f"  - and {len(problems) - _MAX_LISTED} more")
        indented = [f"  {line}" for line in tree.strip("\n").splitlines()]
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = [f"data set {name}: {count} in data.root={root}", *listed, "expected tree:", *indented]
        error = cls("\n".join([*lines, f"where to get it: {source}"]))
        error.problems = tuple(problems)
        return error
