"""Texts as values on the command line, which Hydra's grammar would read otherwise: `data.root=a=b`."""

from __future__ import annotations

import shlex

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from kanvision.config.keys import keys_by_name
from kanvision.config.schema.base import Section

__all__ = ["as_text", "is_text", "shell_word"]

FOLDERS_OF_HYDRA = ("hydra.run.dir", "hydra.sweep.dir")


def is_text(key: str, root: type[Section]) -> bool:
    """Return whether every legal value of a key is a text, or null."""
    types = {known.expected for known in keys_by_name(root).get(key, ())}
    return key in FOLDERS_OF_HYDRA or (bool(types) and types <= {"text", "text or null"})


def as_text(word: str, root: type[Section]) -> str:
    """Return an override with its value quoted, where the key takes a text and Hydra would not read one.

    Null, several values of a sweep and what is quoted already stay.

    Args:
        word: An override.
        root: Schema of the whole configuration.
    """
    key, equals, value = word.partition("=")
    try:
        override = OverridesParser.create().parse_override(word)
        if override.value() is None or isinstance(override.value(), str) or override.is_sweep_override():
            return word
    except HydraException:
        pass
    is_meant = equals and value == value.strip() and is_text(key.lstrip("+"), root)
    return f"{key}={_quote(value)}" if is_meant else word


def shell_word(key: str, text: str) -> str:
    """Return `key=text` as it can be typed in a shell, and be read again as this text."""
    try:
        found = OverridesParser.create().parse_override(f"{key}={text}").value()
    except HydraException:
        found = None
    return shlex.quote(f"{key}={text if found == text else _quote(text)}")


def _quote(text: str) -> str:
    return QuotedString(text, Quote.double).with_quotes()
