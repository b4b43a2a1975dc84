"""Rule of a configuration: the keys that it reads, a condition on their values, and the message."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from kanvision.config.errors import Problem
from kanvision.config.nested import MISSING, value_at
from kanvision.config.schema.base import Section
from kanvision.config.schema.keys import format_yaml

__all__ = ["Rule", "find_problems", "plural"]

CHECKPOINT = "give a checkpoint file, a run folder, or latest"


class Rule(NamedTuple):
    """Combination of values that a configuration must not have.

    A rule applies to configurations that have all the keys that it reads: one about `model.patch_size`
    applies to transformers alone.
    """

    keys: str
    """Dotted keys that the message shows with their values, separated by blanks, the wrong key first."""
    is_wrong: Callable[..., Any]
    """Condition, called with the values. A mapping that it returns fills the {names} in keys and message, and
    its `keys` replace those of the rule; a list of mappings makes one problem of each."""
    why: str
    """Reason; besides the names of the condition, {name} is the value of the key with this last part."""
    fix: str = ""
    """Correction."""
    reads: str = ""
    """Keys whose values the condition takes, if other than `keys`; * stands for the whole configuration."""

    def matches(self, config: Section) -> list[dict[str, Any]]:
        """Return the names for each message; empty if the rule does not apply or the values are legal."""
        read = (self.reads or self.keys).split()
        values = [value_at(config, key) for key in read]
        if any(value is MISSING for value in values):
            return []
        found = self.is_wrong(*values)
        names = {key.rpartition(".")[2]: format_yaml(value) for key, value in zip(read, values, strict=True)}
        several = found if isinstance(found, list) else [found if isinstance(found, Mapping) else {}]
        return [{**names, **more} for more in several] if found else []

    def problems(self, config: Section) -> list[Problem]:
        """Return the problems of a configuration."""
        found = []
        for names in self.matches(config):
            keys = names.pop("keys", None) or [key.format(**names) for key in self.keys.split()]
            given = [f"{key}={format_yaml(value_at(config, key))}" for key in keys]
            texts = (self.why.format(**names), self.fix.format(**names))
            found.append(Problem(tuple(keys), tuple(given), *texts))
        return found


def find_problems(config: Section, rules: Iterable[Rule]) -> list[Problem]:
    """Return the problems of a configuration, in the order of the rules."""
    return [problem for rule in rules for problem in rule.problems(config)]


def plural(count: int, noun: str, ending: str = "s") -> str:
    """Return a count with its noun: `1 value`, `2 values`."""
    return f"{count} {noun}{ending * (count != 1)}"
