"""Option `--plugin` of pytest; an installed kanvision registers it with pytest."""

from __future__ import annotations

from typing import Any


def pytest_addoption(parser: Any) -> None:
    """Add the option."""
    text = "plugin of kanvision that kanvision.testing tests; may be repeated; by default all installed ones"
    parser.addoption("--plugin", action="append", default=[], metavar="MODULE", help=text)
