"""Limits of the expanded size of a file: aliases in a few lines can expand to billions of entries."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from .errors import ConfigError, Problem

__all__ = ["MOST_ENTRIES", "expanded_size", "has_bounded_size", "read_bounded_text", "referred_size"]

MOST_ENTRIES = 20_000
"""Maximum number of entries of a file or configuration, with every alias expanded."""
MOST_BYTES = 2_000_000
_REFERENCE = re.compile(r"\$\{(\.*)([\w.\[\]]+)\}")
_ALIAS = re.compile(r"(?:^|[\s,\[{:-])\*\w", re.MULTILINE)


def expanded_size(value: Any) -> float:
    """Return the number of entries of nested lists and mappings; infinite if one contains itself.

    A part that occurs several times counts each time, as in a copy. The value may be plain or a node of a
    YAML document.
    """
    sizes: dict[int, float] = {}

    def size(part: Any) -> float:
        inner = _parts(part)
        if not inner:
            return 1.0
        if id(part) not in sizes:
            sizes[id(part)] = math.inf  # until it is counted: it may contain itself
            sizes[id(part)] = 1.0 + sum(map(size, inner))
        return sizes[id(part)]

    return size(value)


def referred_size(values: Mapping[str, Any]) -> float:
    """Return the number of entries of a configuration with all references (`${a.b}`) expanded.

    Args:
        values: Configuration as plain values, nothing resolved.
    """
    sizes: dict[str, float] = {}

    def size(part: Any, key: str) -> float:
        if key in sizes:
            return sizes[key]
        sizes[key] = math.inf  # until it is counted: it may refer to itself
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
    """Return True if a YAML document stays within the limits, or cannot be parsed."""
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


def read_bounded_text(path: Path) -> str:
    """Return the text of a configuration file.

    Raises:
        ConfigError: The file exceeds the limits.
    """
    text = path.read_text("utf-8")
    if has_bounded_size(text):
        return text
    why = f"the file expands to more than {MOST_ENTRIES:,} entries, or has {MOST_BYTES:,} bytes"
    raise ConfigError([Problem((path.stem,), (str(path),), why, "write fewer aliases (*name)")])
