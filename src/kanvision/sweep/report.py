"""The table on the screen, as `sweep.csv` for programs and as `sweep.md` for people."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import rich.table
from rich.console import Console

from .runs import read_runs
from .table import NUMBERS, Row, Spread, Table, tabulate

__all__ = ["report", "to_csv", "to_markdown"]

HEADS = {"parameters": "parameters", "flops": "GFLOP / image", "train_seconds": "seconds"}
# Without a terminal there is nothing to fit into.
WIDTH_OF_FILE = 200
LONGEST_REASON = 80


def report(folder: Path, console: Console | None = None) -> Table:
    """Print the table of a folder of runs, and write it there as `sweep.csv` and `sweep.md`.

    Args:
        folder: A sweep's folder or any folder of runs.
        console: Where to print; the standard output by default.

    Returns:
        The table.

    Raises:
        ValueError: No run is in the folder.
        OSError: The folder cannot be written to; the table has been printed.
    """
    table = tabulate(read_runs(folder))
    if console is None:
        console = Console()
        if not console.is_terminal:
            console = Console(width=WIDTH_OF_FILE)
    _print(table, folder, console)
    texts = {folder / "sweep.csv": to_csv(table, folder), folder / "sweep.md": to_markdown(table, folder)}
    for path, text in texts.items():
        path.write_text(text, "utf-8")
    written = f"Written: {', '.join(map(str, texts))}"
    console.print(written, soft_wrap=True, highlight=False, markup=False)
    return table


# --- screen -------------------------------------------------------------------------------------------------


def _print(table: Table, folder: Path, console: Console) -> None:
    console.print()
    metrics = list(table.metrics)
    drawn = _drawn(table, metrics)
    # The one that decides always stays; all are in the files.
    unbounded = console.options.update(width=10_000)
    while len(metrics) > 1 and console.measure(drawn, options=unbounded).maximum > console.width:
        metrics.pop()
        drawn = _drawn(table, metrics)
    console.print(drawn)
    for line in _notes(table):
        console.print(line, style="dim", highlight=False, markup=False)
    for line in _failed(table, folder):
        console.print(line, style="red", highlight=False, markup=False)


def _drawn(table: Table, metrics: Sequence[str]) -> rich.table.Table:
    heads, rows = _cells(table, metrics)
    drawn = rich.table.Table(title=_title(table), title_justify="left", title_style="bold")
    for head in heads:
        side: Literal["left", "right"] = "left" if head in (*table.keys, "failed") else "right"
        drawn.add_column(head, justify=side, max_width=40 if head == "failed" else None)
    for row in rows:
        drawn.add_row(*(rich.markup.escape(cell) for cell in row))
    return drawn


# --- files --------------------------------------------------------------------------------------------------


def to_csv(table: Table, folder: Path) -> str:
    """One line a row, numbers in full; `<name>` is a mean and `<name>_std` its sample standard deviation."""
    names = (*table.metrics, *NUMBERS)
    heads = [*table.keys, "runs", "failed", "seeds"]
    heads += [head for name in names for head in (name, f"{name}_std")] + ["folders", "problems"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    for row in table.rows:
        values = {**row.metrics, **row.numbers}
        numbers = [number for name in names for number in _full(values.get(name))]
        runs = [*row.runs, *(failure.run for failure in row.failures)]
        problems = "; ".join(
            f"seed {failure.run.seed}: {' '.join(failure.reason.split())}" for failure in row.failures
        )
        writer.writerow(
            [
                *row.settings.values(),
                len(row.runs),
                len(row.failures),
                " ".join(run.seed for run in row.runs),
                *numbers,
                " ".join(run.folder.relative_to(folder).as_posix() for run in runs),
                problems,
            ]
        )
    return text.getvalue()


def to_markdown(table: Table, folder: Path) -> str:
    """The table with its notes and the runs that failed."""
    heads, rows = _cells(table, table.metrics)
    sides = [":--" if head in (*table.keys, "failed") else "--:" for head in heads]
    lines = [f"# {_title(table)}", ""]
    lines += [f"- {line}" for line in _notes(table)]
    lines += ["", *(f"| {' | '.join(_escaped(cells))} |" for cells in (heads, sides, *rows))]
    if failed := _failed(table, folder):
        head, *rest = failed
        lines += ["", f"## {head}", "", *(f"- {line.strip()}" for line in rest)]
    return "\n".join(lines) + "\n"


def _escaped(cells: Sequence[str]) -> list[str]:
    return [cell.replace("|", "\\|") for cell in cells]


def _full(spread: Spread | None) -> tuple[object, object]:
    if spread is None:
        return "", ""
    return spread.mean, "" if spread.std is None else spread.std


# --- shared -------------------------------------------------------------------------------------------------


def _cells(table: Table, metrics: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows as text."""
    heads = [*table.keys, "runs", *metrics, *(HEADS[name] for name in NUMBERS)]
    rows = [
        [
            *map(_short, row.settings.values()),
            _count(row),
            *(_mean_and_std(row.metrics.get(name), len(row.runs)) for name in metrics),
            *(_number(name, row.numbers.get(name)) for name in NUMBERS),
        ]
        for row in table.rows
    ]
    if table.failures:
        heads.append("failed")
        for cells, row in zip(rows, table.rows, strict=True):
            cells.append("; ".join(dict.fromkeys(failure.headline for failure in row.failures)))
            if len(cells[-1]) > LONGEST_REASON:
                cells[-1] = cells[-1][: LONGEST_REASON - 3] + "..."
    return heads, rows


def _title(table: Table) -> str:
    rows, runs = len(table.rows), table.num_runs
    best = "highest" if table.mode == "max" else "lowest"
    by = f", {best} {table.metrics[0]} first" if table.metrics else ""
    return f"{runs} run{'s' * (runs > 1)} in {rows} row{'s' * (rows > 1)}{by}"


def _notes(table: Table) -> list[str]:
    notes = []
    if any(len(row.runs) > 1 for row in table.rows):
        notes.append("mean ± sample standard deviation over the seeds of a row")
    if table.shared:
        notes.append(f"the same in all: {' '.join(f'{key}={value}' for key, value in table.shared.items())}")
    if table.facts:
        notes.append(", ".join(f"{name} {' and '.join(values)}" for name, values in table.facts.items()))
    if len(table.facts.get("device", ())) > 1:
        notes.append("seconds were taken on several devices and do not compare")
    return notes


def _failed(table: Table, folder: Path) -> list[str]:
    """Headline and one line for each run without a result."""
    failures = table.failures
    if not failures:
        return []
    lines = [f"{len(failures)} of {table.num_runs} runs failed"]
    for failure in failures:
        run = failure.run
        settings = [f"{key}={run.setting(key)}" for key in table.keys] + [f"seed={run.seed}"] * bool(run.seed)
        where = run.folder.relative_to(folder).as_posix()
        lines.append(f"  {where}: {' '.join(settings)}: {' '.join(failure.reason.split())}")
    return lines


def _count(row: Row) -> str:
    good, bad = len(row.runs), len(row.failures)
    return f"{good} of {good + bad}" if bad else str(good)


def _mean_and_std(spread: Spread | None, runs: int) -> str:
    if spread is None:
        return ""
    text = f"{spread.mean:.4f}" + ("" if spread.std is None else f" ± {spread.std:.4f}")
    return text if spread.count == runs else f"{text} ({spread.count} runs)"


def _number(name: str, spread: Spread | None) -> str:
    if spread is None:
        return ""
    if name == "parameters":
        return f"{spread.mean:,.0f}"
    return f"{spread.mean / 1e9:.4g}" if name == "flops" else f"{spread.mean:.1f}"


def _short(setting: str) -> str:
    """A setting that is easy to read; a search tries numbers of seventeen digits."""
    try:
        number = float(setting)
    except ValueError:
        return setting
    return setting if setting.lstrip("-").isdecimal() else f"{number:.4g}"
