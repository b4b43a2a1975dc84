"""Imports on first use, and imports of modules that may be absent."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["import_optional", "load_on_demand"]


def import_optional(module: str) -> Any:
    """Return a module, or None if it is not installed or does not exist on this system."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def load_on_demand(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a `__getattr__` for a package that imports its members on first use.

    Args:
        package: Name of the package.
        homes: Relative name of the module of each member; one with the name of its module is that module.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(homes[name], package)
        return module if homes[name] == f".{name}" else getattr(module, name)

    return get
