"""One word of a command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .composition import Override
from .problems import Problem

__all__ = ["Typed", "last_of_each"]


@dataclass(frozen=True)
class Typed:
    """One override: its text and what Hydra reads in it."""

    text: str
    parsed: Override

    @property
    def key(self) -> str:
        """Group or dotted key."""
        return self.parsed.key_or_group

    @property
    def line(self) -> str:
        """Text that Hydra is given, which `parsed` was read from."""
        return str(self.parsed.input_line)

    @property
    def is_sweep(self) -> bool:
        """Whether it stands for several values."""
        return bool(self.parsed.is_sweep_override())

    def touches(self, key: str) -> bool:
        """Whether it sets `key`, something in it, or the section around it."""
        return key == self.key or key.startswith(f"{self.key}.") or self.key.startswith(f"{key}.")

    def problem(self, why: str, fix: str = "") -> Problem:
        """A complaint about this override."""
        return Problem((self.key,), (self.text,), why, fix)


def last_of_each(words: Sequence[Typed]) -> list[Typed]:
    """Return the overrides without those that a later one of the same key replaces."""
    last = {(word.key, word.parsed.package): word for word in words}
    return [word for word in words if word is last[word.key, word.parsed.package]]
