"""Errors of exports."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["ExportError", "import_extra"]


class ExportError(RuntimeError):
    """A network cannot be exported, or a file does not compute what the network computes."""


def import_extra(module: str, extra: str) -> Any:
    """Return a module of an optional dependency, which an extra of kanvision installs.

    Raises:
        ExportError: If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ExportError(f"{package} is not installed: pip install 'kanvision[{extra}]'") from error
