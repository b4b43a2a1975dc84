"""Report of a sweep: its table on the screen, in `sweep.csv` for programs and in `sweep.md` for readers."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import rich.table
from rich.console import Console

from .runs import read_runs
from .table import MORE_NUMBERS, NUMBERS, Row, Spread, SweepTable, tables

__all__ = ["markdown_row", "mean_and_interval", "print_tables", "report", "to_csv", "to_markdown"]

# Width of the output without a terminal.
WIDTH_OF_FILE = 200
LONGEST_REASON = 80
SETTINGS = "settings"
WORDS = (SETTINGS, "failed")
MOST_KEYS = 8
"""Maximum number of settings with their own columns in `sweep.md`; more settings share one column."""
NARROWEST = 40
"""Width of the column of settings that wraps its lines, in characters."""


def report(folder: Path, console: Console | None = None) -> list[SweepTable]:
    """Print the tables of a folder of runs, and write them there as `sweep.csv` and `sweep.md`.

    Returns:
        A table for each metric that runs are sorted by; a sweep usually has one.

    Raises:
        ValueError: No run is in the folder.
        OSError: The folder is not writable; the tables have been printed.
    """
    found = tables(read_runs(folder))
    if console is None:
        console = Console()
        if not console.is_terminal:
            console = Console(width=WIDTH_OF_FILE)
    print_tables(found, folder, console)
    texts = {folder / "sweep.csv": to_csv(found, folder), folder / "sweep.md": to_markdown(found, folder)}
    for path, text in texts.items():
        path.write_text(text, "utf-8")
    written = f"Written: {', '.join(map(str, texts))}"
    console.print(written, soft_wrap=True, highlight=False, markup=False)
    return found


def print_tables(found: Sequence[SweepTable], folder: Path, console: Console) -> None:
    """Print tables with their notes and the runs without a result."""
    for table in found:
        _print(table, folder, console)


# --- screen -------------------------------------------------------------------------------------------------


def _print(table: SweepTable, folder: Path, console: Console) -> None:
    console.print()
    console.print(_fitting(table, console))
    for line in _notes(table):
        console.print(line, style="dim", highlight=False, markup=False)
    for line in _failed(table, folder):
        console.print(line, style="red", highlight=False, markup=False)


def _fitting(table: SweepTable, console: Console) -> rich.table.Table:
    """Return the table with as many metrics as fit the screen, at least the one that rows are sorted by.

    If a column for each setting does not fit, the settings share one. The files have everything.
    """
    unbounded = console.options.update(width=10_000)
    for count in range(len(table.metrics) or 1, 0, -1):
        drawn = _drawn(table, *_cells(table, table.metrics[:count]))
        if console.measure(drawn, options=unbounded).maximum <= console.width:
            return drawn
    # Drop metrics except the first one, then costs; failures are listed below the table.
    droppable = [*NUMBERS.values(), *table.metrics[1:]]
    heads, rows = _cells(table, table.metrics, folded=True)
    columns = {head: [head, *cells] for head, *cells in zip(heads, *rows, strict=True) if head != "failed"}
    sizes = {head: max(map(len, cells)) + len(" │ ") for head, cells in columns.items()}
    sizes[SETTINGS] = NARROWEST
    while droppable and sum(sizes.values()) > console.width:
        dropped = droppable.pop()
        del sizes[dropped], columns[dropped]
    drawn = _drawn(table, list(columns), list(zip(*columns.values(), strict=True))[1:])
    drawn.show_lines = True
    return drawn


def _drawn(table: SweepTable, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> rich.table.Table:
    drawn = rich.table.Table(title=_title(table), title_justify="left", title_style="bold")
    for head in heads:
        if head in (*table.keys, *WORDS):
            drawn.add_column(head, max_width=40 if head == "failed" else None, overflow="fold")
        else:
            drawn.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        drawn.add_row(*(rich.markup.escape(cell) for cell in row))
    return drawn


# --- files --------------------------------------------------------------------------------------------------


def to_csv(found: Sequence[SweepTable], folder: Path) -> str:
    """Return csv with a line for each row; columns of a number: mean, `_std`, 95 % interval."""
    keys = list(dict.fromkeys(key for table in found for key in table.keys))
    names = [*dict.fromkeys(name for table in found for name in table.metrics), *NUMBERS, *MORE_NUMBERS]
    heads = [*keys, "runs", "failed", "unfinished", "seeds"]
    heads += [head for name in names for head in (name, f"{name}_std", f"{name}_low", f"{name}_high")]
    heads += ["folders", "problems"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    for row in (row for table in found for row in table.rows):
        values = {**row.metrics, **row.numbers}
        numbers = [number for name in names for number in mean_and_interval(values.get(name))]
        runs = [*row.runs, *(failure.run for failure in row.failures)]
        problems = "; ".join(
            f"seed {failure.run.seed}: {' '.join(failure.reason.split())}" for failure in row.failures
        )
        writer.writerow(
            [
                *(runs[0].setting(key) for key in keys),
                len(row.runs),
                sum(failure.is_finished for failure in row.failures),
                sum(not failure.is_finished for failure in row.failures),
                " ".join(run.seed for run in row.runs),
                *numbers,
                " ".join(run.folder.relative_to(folder).as_posix() for run in runs),
                problems,
            ]
        )
    return text.getvalue()


def to_markdown(found: Sequence[SweepTable], folder: Path) -> str:
    """Return Markdown with the tables, their notes and the failed runs."""
    return "\n".join(_markdown(table, folder) for table in found)


def _markdown(table: SweepTable, folder: Path) -> str:
    heads, rows = _cells(table, table.metrics, folded=len(table.keys) > MOST_KEYS)
    sides = [":--" if head in (*table.keys, *WORDS) else "--:" for head in heads]
    lines = [f"# {_title(table)}", ""]
    lines += [f"- {line}" for line in _notes(table)]
    lines += ["", *map(markdown_row, (heads, sides, *rows))]
    if failed := _failed(table, folder):
        head, *rest = failed
        lines += ["", f"## {head}", "", *(f"- {line.strip()}" for line in rest)]
    return "\n".join(lines) + "\n"


def markdown_row(cells: Sequence[str]) -> str:
    """Return a row of a table in Markdown."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def mean_and_interval(spread: Spread | None) -> tuple[float | None, ...]:
    """Return mean, sample standard deviation, and the ends of the 95 % interval of the mean."""
    if spread is None:
        return None, None, None, None
    return spread.mean, spread.std, *(spread.interval or (None, None))


# --- shared -------------------------------------------------------------------------------------------------


def _cells(
    table: SweepTable, metrics: Sequence[str], *, folded: bool = False
) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows as text; the settings have a column each or, folded, one for all."""
    heads = [*([SETTINGS] if folded else table.keys), "runs", *metrics, *NUMBERS.values()]
    rows = [
        [
            *([_given(row)] if folded else map(_short, row.settings.values())),
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


def _title(table: SweepTable) -> str:
    rows, runs = len(table.rows), table.num_runs
    best = "highest" if table.mode == "max" else "lowest"
    by = f", {best} {table.metrics[0]} first" if table.metrics else ""
    return f"{runs} run{'s' * (runs > 1)} in {rows} row{'s' * (rows > 1)}{by}"


def _notes(table: SweepTable) -> list[str]:
    notes = []
    if any(len(row.runs) > 1 for row in table.rows):
        notes.append("mean ± sample standard deviation over the seeds of a row")
    if table.shared:
        notes.append(f"shared settings: {' '.join(f'{key}={value}' for key, value in table.shared.items())}")
    if table.facts:
        notes.append(", ".join(f"{name} {' and '.join(values)}" for name, values in table.facts.items()))
    if len(table.facts.get("device", ())) > 1:
        notes.append("seconds come from several devices and are not comparable")
    return notes


def _failed(table: SweepTable, folder: Path) -> list[str]:
    """Return a headline, and one line for each run without a result."""
    failures = table.failures
    if not failures:
        return []
    failed = sum(failure.is_finished for failure in failures)
    heads = [f"{failed} of {table.num_runs} runs failed"] if failed else []
    heads += [f"{len(failures) - failed} not finished"] if failed < len(failures) else []
    lines = [", ".join(heads)]
    for failure in failures:
        run = failure.run
        settings = [f"{key}={run.setting(key)}" for key in table.keys if run.setting(key)]
        settings += [f"seed={run.seed}"] * bool(run.seed)
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


def _given(row: Row) -> str:
    """Return the varied settings that the command line of a row sets."""
    runs = [*row.runs, *(failure.run for failure in row.failures)]
    settings = row.settings.items()
    given = [(key, value) for key, value in settings if any(key in run.overrides for run in runs)]
    return " ".join(f"{key}={_short(value)}" for key, value in given) or "(defaults)"


def _short(setting: str) -> str:
    """Return a setting in short form, because a search tries numbers with seventeen digits."""
    try:
        number = float(setting)
    except ValueError:
        return setting
    return setting if setting.lstrip("-").isdecimal() else f"{number:.4g}"
