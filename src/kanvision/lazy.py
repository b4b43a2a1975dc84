"""Imports on first use, and imports of modules that may be absent."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from typing import Any

__all__ = ["import_optional", "load_on_demand"]


def import_optional(module: str) -> Any:
    """Return a module, or None if it is not installed or does not exist on this system."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def load_on_demand(package: str) -> Callable[[str], Any]:
    """Return a `__getattr__` for a package that imports its members on first use.

    The members are those that the package imports under `if TYPE_CHECKING`, so that each is listed once.
    """

    def get(name: str) -> Any:
        if name not in _members(package):
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = _members(package)[name]
        if home is None:
            return importlib.import_module(f"{package}.{name}")
        return getattr(importlib.import_module(home, package), name)

    return get


@cache
def _members(package: str) -> dict[str, str | None]:
    """Return the relative name of the module of each member; None for a module of the package itself."""
    found: dict[str, str | None] = {}
    source = pkgutil.get_data(package, "__init__.py") or b""
    for block in ast.parse(source).body:
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING":
            for line in block.body:
                assert isinstance(line, ast.ImportFrom)
                home = line.module and f"{'.' * line.level}{line.module}"
                found |= {alias.name: home for alias in line.names}
    return found
