"""Nested mappings and lists, such as a configuration: the value at a dotted key, all values with keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .schema.base import Section

__all__ = ["MISSING", "flatten", "value_at", "walk"]

MISSING = object()


def value_at(node: Any, key: str) -> Any:
    """Return the value at a dotted key, `*` for the whole; MISSING if there is none."""
    if key in ("", "*"):
        return node
    if isinstance(node, list | tuple):
        node = {str(index): item for index, item in enumerate(node)}
    if isinstance(node, Mapping):
        # names of callbacks may have dots
        name = next((name for name in node if f"{key}.".startswith(f"{name}.")), None)
        return MISSING if name is None else value_at(node[name], key[len(str(name)) + 1 :])
    name, _, rest = key.partition(".")
    is_key = isinstance(node, Section) and hasattr(node, name)
    return value_at(getattr(node, name), rest) if is_key else MISSING


def walk(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted key and value of everything in nested mappings and lists, a section before its keys."""
    yield key, node
    if isinstance(node, list | tuple):
        node = {str(index): item for index, item in enumerate(node)}
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from walk(value, f"{key}.{name}" if key else str(name))


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values in nested mappings by their dotted keys; lists and empty mappings are values."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
