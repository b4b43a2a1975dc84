"""Output on the terminal: the console, tables of facts, and the messages of libraries."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

__all__ = ["build_console", "print_header", "print_results", "silence_libraries"]

VERBOSE_LOGGERS = (
    "pytorch_lightning",
    "pytorch_lightning.utilities.rank_zero",
    "lightning_fabric.utilities.distributed",
)
"""Loggers of Lightning's messages at each start (devices, ranks, advertisement)."""
IGNORED_WARNINGS = (
    ".*LeafSpec",
    "The number of training batches .* is smaller than the logging interval",
    "The '.*_dataloader' does not have many workers",
    r"`ModelCheckpoint\(monitor=.* could not find the monitored key",  # nothing was validated
    "You're using the WeightAveraging callback with a model that overrides",  # only FSDP shards
    r"Found \d+ module\(s\) in eval mode",  # a frozen teacher
)
"""Warnings that a user cannot act on, or about settings that are made on purpose."""


def build_console(quiet: bool = False) -> Console:
    """Return a console without markup and emojis, because paths and names may contain `[x]` and `:cat:`."""
    return Console(quiet=quiet, markup=False, emoji=False, highlight=False)


def silence_libraries() -> None:
    """Silence the messages that libraries print at each run, and shorten our own warnings to their text."""
    for name in VERBOSE_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message=message, module=r"pytorch_lightning|torch\.")
    warnings.formatwarning = _format_warning


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    if Path(filename).is_relative_to(Path(__file__).parent):  # about data and settings, not about code
        return f"Note: {message}\n"
    return f"{filename}:{lineno}: {category.__name__}: {message}\n"


def print_header(console: Console, title: str, rows: Mapping[str, str]) -> None:
    """Print the table of facts before a run."""
    console.print(title, style="bold")
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim")
    table.add_column()
    for key, value in rows.items():
        table.add_row(key, value)
    console.print(table)


def print_results(
    console: Console, title: str, metrics: Mapping[str, float], facts: Mapping[str, str]
) -> None:
    """Print the table of metrics (fractions, four digits) and of facts of the model."""
    console.print(title, style="bold")
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for key, value in metrics.items():
        table.add_row(key, f"{value:.4f}")
    table.add_section()
    for key, text in facts.items():
        table.add_row(key, text)
    console.print(table)
