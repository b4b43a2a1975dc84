"""Overrides that stand for several runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kanvision.config.errors import Problem
from kanvision.config.runtime.run_folder import list_checkpoints

from .compose import Override
from .quoting import shell_word

__all__ = ["ParsedOverride", "combinations", "last_of_each", "sweep_folder_problems", "sweep_values"]


@dataclass(frozen=True)
class ParsedOverride:
    """Override as typed, with its parsed form."""

    text: str
    parsed: Override

    @property
    def key(self) -> str:
        """Group or dotted key."""
        return self.parsed.key_or_group

    @property
    def line(self) -> str:
        """Text that Hydra parses."""
        return str(self.parsed.input_line)

    @property
    def is_sweep(self) -> bool:
        """True if the override stands for several values."""
        return bool(self.parsed.is_sweep_override())

    def touches(self, key: str) -> bool:
        """Return True if the override sets a key, a key inside of it, or a section around it."""
        return key == self.key or key.startswith(f"{self.key}.") or self.key.startswith(f"{key}.")

    def problem(self, why: str, fix: str = "") -> Problem:
        """Return a problem of this override."""
        return Problem((self.key,), (self.text,), why, fix)


def last_of_each(words: Sequence[ParsedOverride]) -> list[ParsedOverride]:
    """Return the overrides without those that a later one of the same key replaces."""
    last = {(word.key, word.parsed.package): word for word in words}
    return [word for word in words if word is last[word.key, word.parsed.package]]


# With more combinations, each value of a sweep is checked beside the first values of the others.
MOST_COMBINATIONS = 32
# Keys whose values are legal in every run, or in none.
INDEPENDENT = ("seed",)


def combinations(sweeps: Sequence[Sequence[ParsedOverride]]) -> Iterator[list[ParsedOverride]]:
    """Yield the runs to check: each value at least once, all combinations if they are few."""
    first = [words[0] for words in sweeps]
    joint = [words if words[0].key not in INDEPENDENT else words[:1] for words in sweeps]
    count = 1
    for words in joint:
        count *= len(words)
    if count <= MOST_COMBINATIONS:
        yield from map(list, itertools.product(*joint))
        alone = [i for i, words in enumerate(sweeps) if words[0].key in INDEPENDENT]
    else:
        yield first
        alone = list(range(len(sweeps)))
    for i in alone:
        for word in sweeps[i][1:]:
            yield [*first[:i], word, *first[i + 1 :]]


def sweep_values(word: ParsedOverride, choices: Sequence[str]) -> list[str]:
    """Return the values of a sweep as text; for an interval or a range, its two ends."""
    sweep: Any = word.parsed.value()
    if hasattr(sweep, "filter"):  # glob(*)
        return list(sweep.filter(choices))
    if hasattr(sweep, "end"):  # interval(a, b)
        return [str(sweep.start), str(sweep.end)]
    values = [str(value) for value in word.parsed.sweep_string_iterator()]
    if hasattr(sweep, "stop"):  # range(a, b)
        return list(dict.fromkeys([*values[:1], *values[-1:]]))
    return values


def sweep_folder_problems(words: Sequence[ParsedOverride]) -> Iterator[Problem]:
    """Yield the problems of folders that jobs of a sweep would share, or that hold another sweep."""
    given = {word.key: word for word in words}
    if "run.dir" in given:
        why = "each job of a sweep has its own folder, hydra.sweep.dir/<number of the job>"
        yield given["run.dir"].problem(why, shell_word("hydra.sweep.dir", _text(given["run.dir"])))
    is_resumed = "resume" in given and _text(given["resume"]) == "auto"
    if "hydra.sweep.dir" in given and not is_resumed:
        folder = Path(_text(given["hydra.sweep.dir"]))
        if any(list_checkpoints(job) for job in folder.glob("*")):
            fix = "choose another folder, or add resume=auto to run its unfinished jobs"
            yield given["hydra.sweep.dir"].problem("the folder holds another sweep", fix)


def _text(word: ParsedOverride) -> str:
    return str(word.parsed.value())
