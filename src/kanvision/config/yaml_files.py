"""YAML files of configurations: their values as OmegaConf reads them, and limits of their expanded size.

Aliases in a few lines can expand to billions of entries.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # PyYAML without libyaml reads the same, slower
    from yaml import SafeLoader  # type: ignore[assignment]

from .errors import ConfigError, Problem

__all__ = [
    "MOST_ENTRIES",
    "YamlLoader",
    "expanded_size",
    "has_bounded_size",
    "read_bounded_text",
    "read_yaml",
    "referred_size",
]

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
    """Return the number of entries of a configuration with all references (`${a.b}`) expanded."""
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
    """Return the text of a configuration file; ConfigError if it exceeds the limits."""
    text = path.read_text("utf-8")
    if has_bounded_size(text):
        return text
    why = f"the file expands to more than {MOST_ENTRIES:,} entries, or has {MOST_BYTES:,} bytes"
    raise ConfigError([Problem((path.stem,), (str(path),), why, "write fewer aliases (*name)")])


def read_yaml(path: Path) -> Any:
    """Return the content of a configuration file; ConfigError if it exceeds the limits."""
    return yaml.load(read_bounded_text(path), YamlLoader)


FLOAT, TIMESTAMP = "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp"


class YamlLoader(SafeLoader):
    """Loader that reads 1e-6 as a number and 2026-01-02 as text, and refuses a key that occurs twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping; ConstructorError if it has a key twice."""
        for key, other in pairwise(sorted(str(key.value) for key, _ in node.value)):
            if key == other:
                raise yaml.constructor.ConstructorError(None, None, f"{key} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


YamlLoader.yaml_implicit_resolvers = {
    start: [(tag, pattern) for tag, pattern in resolvers if tag != TIMESTAMP]
    for start, resolvers in SafeLoader.yaml_implicit_resolvers.items()
}
YamlLoader.add_implicit_resolver(
    FLOAT, re.compile(r"[-+]?\d+(_\d+)*(\.[\d_]*)?[eE][-+]?\d+$"), list("-+0123456789")
)
