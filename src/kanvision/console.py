"""Console of the programs."""

from __future__ import annotations

from rich.console import Console

__all__ = ["build_console"]


def build_console(quiet: bool = False) -> Console:
    """Return a console without markup and emojis, because paths and names may contain `[x]` and `:cat:`.

    Args:
        quiet: Print nothing.
    """
    return Console(quiet=quiet, markup=False, emoji=False, highlight=False)
