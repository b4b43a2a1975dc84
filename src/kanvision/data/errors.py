"""Error that all readers of data sets raise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_MAX_LISTED: Final = 10


class DataError(ValueError):
    """Error for a data set that is missing, incomplete or broken.

    An exception is rebuilt from its message alone when it leaves a loader process.

    Attributes:
        problems: Descriptions of the problems in the process that found them; empty in other processes.
    """

    problems: tuple[str, ...] = ()

    @classmethod
    def from_problems(
        cls, *, name: str, root: str, problems: Sequence[str], tree: str, source: str
    ) -> DataError:
        """Return the error with everything that a user needs to repair the data.

        Args:
            name: Name of the data set, as in `data=<name>`.
            root: Folder of the data set.
            problems: Descriptions of the problems, each with its remedy.
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
