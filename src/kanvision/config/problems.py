"""Mistakes of the user: what is wrong, why, and what would be right."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

__all__ = ["ConfigError", "Problem", "is_first_process", "shown_as_text"]


@dataclass(frozen=True)
class Problem:
    """One mistake.

    Attributes:
        keys: Dotted keys that it is about; the first one is the culprit.
        given: What the user gave for each key, as typed or as it stands in a file.
        why: Why it is refused.
        fix: What would be right; may be empty.
    """

    keys: tuple[str, ...]
    given: tuple[str, ...]
    why: str
    fix: str = ""

    def __post_init__(self) -> None:
        assert len(self.keys) == len(self.given)

    def typed_as(self, *given: str) -> Problem:
        """The same problem, shown with the words of the command line or with the file it comes from."""
        return replace(self, given=given)

    def lines(self) -> list[str]:
        """The problem as lines of text."""
        return [
            line
            for part in (", ".join(dict.fromkeys(self.given)), self.why, self.fix)
            for line in part.splitlines()
            if line
        ]


class ConfigError(ValueError):
    """A configuration was refused; holds all its problems.

    Args:
        problems: What is wrong.
        where: Where the mistakes were made, for the headline.
    """

    def __init__(self, problems: Sequence[Problem], where: str = "the configuration") -> None:
        self.problems = tuple(problems)
        self.where = where
        super().__init__(self._text())

    def _text(self) -> str:
        count = len(self.problems)
        blocks = [f"{count} problem{'s' if count > 1 else ''} in {self.where}:"]
        for number, problem in enumerate(self.problems, 1):
            first, *rest = problem.lines()
            blocks.append("\n".join([f"{number:>3}. {first}", *(f"     {line}" for line in rest)]))
        return "\n".join(blocks)


def is_first_process() -> bool:
    """Whether this process speaks for the run: rank 0 of torchrun, Slurm or Lightning's own launcher."""
    ranks = (os.environ.get(name, "0") for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"))
    return all(rank == "0" for rank in ranks)


@contextmanager
def shown_as_text(*kinds: type[Exception], status: int = 1) -> Iterator[None]:
    """Turn mistakes of the user into one block of text on stderr and a non-zero exit.

    With HYDRA_FULL_ERROR=1 in the environment the exception passes, so that its traceback is shown.

    Args:
        *kinds: Exceptions that are the user's to mend.
        status: Exit status.
    """
    try:
        yield
    except kinds as error:
        if os.environ.get("HYDRA_FULL_ERROR", "0") != "0":
            raise
        if is_first_process():
            print(f"\n{error}", file=sys.stderr)
        # SystemExit passes Hydra, which would wrap any other exception in a traceback of its own.
        raise SystemExit(status) from None
