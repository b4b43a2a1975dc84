"""Quoting of texts that the grammar of Hydra does not read as texts, such as `data.root=a=b`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from kanvision.config.schema.base import Section
from kanvision.config.schema.keys import format_yaml, keys_by_name

__all__ = ["as_text", "is_text", "override", "shell_word"]

FOLDERS_OF_HYDRA = ("hydra.run.dir", "hydra.sweep.dir")


def is_text(key: str, root: type[Section]) -> bool:
    """Return True if every legal value of a key is a text, or null."""
    types = {known.expected for known in keys_by_name(root).get(key, ())}
    return key in FOLDERS_OF_HYDRA or (bool(types) and types <= {"text", "text or null"})


def as_text(word: str, root: type[Section]) -> str:
    """Return an override with its value quoted, if the key takes a text and Hydra would not read one.

    Null, several values of a sweep and quoted values do not change.
    """
    key, equals, value = word.partition("=")
    try:
        override = OverridesParser.create().parse_override(word)
        if override.value() is None or isinstance(override.value(), str) or override.is_sweep_override():
            return word
    except HydraException:
        pass
    is_plain_text = equals and value == value.strip() and is_text(key.lstrip("+"), root)
    return f"{key}={_quote(value)}" if is_plain_text else word


def shell_word(key: str, text: str) -> str:
    """Return `key=text` quoted for a shell and for the grammar of Hydra."""
    try:
        found = OverridesParser.create().parse_override(f"{key}={text}").value()
    except HydraException:
        found = None
    return shlex.quote(f"{key}={text if found == text else _quote(text)}")


def override(key: str, value: Any) -> str:
    """Return `key=value` for the grammar of Hydra."""
    if isinstance(value, str):
        is_plain = shell_word(key, value) == f"{key}={value}"
        return f"{key}={value if is_plain else _quote(value)}"
    return f"{key}={_element(value)}"


def _element(value: Any) -> str:
    """Return a value as an element of a list or mapping is written."""
    if isinstance(value, str):
        return _quote(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_element(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_element, value)) + "]"
    return format_yaml(value)


def _quote(text: str) -> str:
    return QuotedString(text, Quote.double).with_quotes()
