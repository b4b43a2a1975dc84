"""Records of plugins in configurations: which ones are missing, and which ones to record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kanvision.plugins import LOADED

from .errors import Problem

__all__ = ["KEY", "missing_plugins", "used_plugins"]

KEY = "plugins"
"""Key of the names of plugins."""


def missing_plugins(values: Mapping[str, Any]) -> list[Problem]:
    """Return a problem for each plugin that a configuration names and that is not loaded.

    Nothing is imported: a configuration may come from anywhere.
    """
    names = values.get(KEY) or []
    return [
        Problem(
            (KEY,),
            (f"{KEY}=[{name}]",),
            f"the plugin {name} is not loaded; a file or checkpoint only records it",
            f"if you trust it, name it on the command line: {KEY}=[{name}]",
        )
        for name in ([names] if isinstance(names, str) else names)
        if name not in LOADED
    ]


def used_plugins(named: Sequence[str], values: Mapping[str, Any]) -> list[str]:
    """Return the plugins to record: those that are named, and installed ones that a configuration uses."""
    used = (name for name, plugin in LOADED.items() if plugin.is_used(values))
    return list(dict.fromkeys([*named, *used]))
