"""The console that a program prints to."""

from __future__ import annotations

from rich.console import Console

__all__ = ["build_console"]


def build_console(quiet: bool = False) -> Console:
    """Return a console that prints every text as it is.

    Paths and names come from users: `[x]` in them is no markup, and `:cat:` no emoji.

    Args:
        quiet: Print nothing.
    """
    return Console(quiet=quiet, markup=False, emoji=False, highlight=False)
