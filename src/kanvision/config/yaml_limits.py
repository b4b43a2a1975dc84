"""Limits of what a file may grow to: repeated parts of a few lines can stand for billions of entries."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from .errors import Problem

__all__ = ["MOST_ENTRIES", "expanded_size", "growth_problems", "has_bounded_size", "referred_size"]

MOST_ENTRIES = 20_000
"""Entries of one file or configuration, each repeated part counted as often as it is named."""
MOST_BYTES = 2_000_000
_REFERENCE = re.compile(r"\$\{(\.*)([\w.\[\]]+)\}")
_ALIAS = re.compile(r"(?:^|[\s,\[{:-])\*\w", re.MULTILINE)


def expanded_size(value: Any) -> float:
    """Return the number of entries of nested lists and mappings; infinite if one of them holds itself.

    A part that is named in several places counts in each of them, as it does once it is copied or written.
    Takes plain values and the nodes of a YAML document.
    """
    sizes: dict[int, float] = {}

    def size(part: Any) -> float:
        inner = _parts(part)
        if not inner:
            return 1.0
        if id(part) not in sizes:
            sizes[id(part)] = math.inf  # as long as it is open: it may hold itself
            sizes[id(part)] = 1.0 + sum(map(size, inner))
        return sizes[id(part)]

    return size(value)


def referred_size(values: Mapping[str, Any]) -> float:
    """Return the number of entries of a configuration with all references (`${a.b}`) written out.

    Args:
        values: The configuration as plain values, nothing filled in.
    """
    sizes: dict[str, float] = {}

    def size(part: Any, key: str) -> float:
        if key in sizes:
            return sizes[key]
        sizes[key] = math.inf  # as long as it is open: it may refer to itself
        inner: float = 0.0
        if isinstance(part, Mapping):
            inner = sum(size(value, f"{key}.{name}") for name, value in part.items())
        elif isinstance(part, list):
            inner = sum(size(value, f"{key}.{number}") for number, value in enumerate(part))
        elif isinstance(part, str):
            inner = sum(referred(dots, path, key) for dots, path in _REFERENCE.findall(part))
        sizes[key] = 1.0 + inner
        return sizes[key]

    def referred(dots: str, path: str, key: str) -> float:
        around = key.split(".")[: -len(dots)] if dots else [""]
        goal = ".".join([*around, *re.findall(r"[^.\[\]]+", path)])
        found: Any = values
        for name in goal.split(".")[1:]:
            if isinstance(found, list) and name.isdecimal() and int(name) < len(found):
                found = found[int(name)]
            elif isinstance(found, Mapping) and name in found:
                found = found[name]
            else:
                return 0.0
        return size(found, goal)

    return size(values, "")


def _parts(value: Any) -> Sequence[Any]:
    if isinstance(value, yaml.MappingNode):
        return [node for pair in value.value for node in pair]
    if isinstance(value, yaml.SequenceNode):
        return list(value.value)
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, list | tuple) else ()


def has_bounded_size(text: str) -> bool:
    """Return whether a YAML document stays within the limits; a mistake in it is left to its reader."""
    if len(text) > MOST_BYTES:
        return False
    if not _ALIAS.search(text):
        return True
    try:
        return expanded_size(yaml.compose(text, yaml.SafeLoader)) <= MOST_ENTRIES
    except yaml.YAMLError:
        return True
    except RecursionError:
        return False


def growth_problems(folders: Iterable[Path]) -> Iterator[Problem]:
    """Complain about each file of configuration below some folders that grows beyond the limits."""
    for folder in folders:
        for path in sorted(folder.rglob("*.yaml")):
            if not has_bounded_size(path.read_text("utf-8", errors="replace")):
                why = f"the file stands for more than {MOST_ENTRIES:,} entries or {MOST_BYTES:,} bytes"
                yield Problem((path.stem,), (str(path),), why, "write fewer aliases (*name)")
