"""Pages of the documentation that state our numbers, written from the records.

A page has marked blocks, `<!-- evidence: <kind> -->` to `<!-- /evidence -->`, whose content is
replaced; nothing else of it changes. docs/papers.md is written as a whole: see papers.py.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from .ledger import Ledger
from .papers import Ours, render_papers
from .plan import REPOSITORY, Plan
from .plot import draw_table
from .results import Estimate, RowResult, TableResult, read_table

__all__ = ["PAGES", "render_pages", "write_pages"]

PAGES = ("docs/evidence.md", "docs/kan_or_not.md")
BLOCK = re.compile(r"(<!-- evidence: (\w+) -->\n).*?(<!-- /evidence -->)", re.DOTALL)
ONE_CORE = "1 thread of an x86-64 CPU"


def write_pages(repository: Path = REPOSITORY) -> list[str]:
    """Write all pages, and return the names of those that have changed."""
    changed = []
    for name, text in render_pages(repository).items():
        path = repository / name
        if not path.is_file() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            changed.append(name)
    return changed


def render_pages(repository: Path = REPOSITORY) -> dict[str, str]:
    """Return the text of each page and picture by its name."""
    plan = Plan.load(repository)
    ledger = Ledger(repository / "docs" / "results")
    tables = [read_table(plan, ledger, name) for name in plan.tables]

    def fill(match: re.Match[str]) -> str:
        start, kind, end = match.groups()
        return f"{start}{BLOCKS[kind](tables)}{end}"

    pages = {name: BLOCK.sub(fill, (repository / name).read_text("utf-8")) for name in PAGES}
    pages["docs/papers.md"] = render_papers(repository, _our_results(tables))
    pictures = {f"docs/{_picture(table)}": draw_table(table) for table in tables if table.rows}
    return pages | pictures


def _picture(table: TableResult) -> str:
    return f"pictures/evidence_{table.name}.svg"


def _our_results(tables: Iterable[TableResult]) -> dict[str, Ours]:
    """Return number and cost of each finished row by the name of its experiment."""
    found = {}
    for table in tables:
        for row in table.rows:
            minutes = _minutes(table, row)
            cost = f"{ONE_CORE}, {minutes} CPU minutes" if minutes else ONE_CORE
            found[row.experiment.name] = Ours(f"{_score(row)} ({len(row.records)} seeds)", cost)
    return found


def _render_tables(tables: list[TableResult]) -> str:
    """Return a section for each table that has finished rows."""
    return "".join(_render_table(table) for table in tables if table.rows)


def _render_table(table: TableResult) -> str:
    baseline = table.comparison.baseline
    head = ["row", "parameters", "MFLOP / image", f"{table.comparison.metric}, %", "seeds"]
    head += [f"difference from {baseline}", "over images", "p", "verdict"] if table.baseline else []
    head += [f"CPU minutes at {table.commit}", "lr", "command"]
    lines = [
        f"## {table.name}",
        "",
        *_wrap(table.comparison.shows),
        "",
        _bar(head),
        _bar(["---"] * len(head)),
    ]
    lines += [_bar(_row_cells(table, row)) for row in table.rows]
    lines += ["", f"![Mean and 95 % interval of each row]({_picture(table)})", ""]
    lines += [*_wrap(" ".join(_conclusions(table))), ""]
    if edges := _rates_at_the_edge(table):
        lines += [*_wrap(edges), ""]
    if table.missing:
        lines += [*_wrap(f"In the queue: {', '.join(table.missing)}."), ""]
    if len(table.commits) > 1:
        lines += [*_wrap(f"Commits of the records: {', '.join(table.commits)}."), ""]
    return "\n".join(lines) + "\n"


def _row_cells(table: TableResult, row: RowResult) -> list[str]:
    record = _first(row)
    flops = (record["flops"] + record["basis_flops"]) / 1e6
    cells = [row.name, f"{_size(row):,}", f"{flops:.3g}", _score(row), str(len(row.records))]
    if table.baseline is not None:
        if row.contrast is None:
            cells += [""] * 4
        else:
            contrast = row.contrast
            images = "" if contrast.over_images is None else _bounds(contrast.over_images, "+")
            p = "" if contrast.p_adjusted is None else f"{contrast.p_adjusted:.2g}"
            cells += [_difference(contrast.over_seeds), images, p, contrast.verdict]
    return [*cells, _minutes(table, row), f"{record['lr']:g}", _command(row)]


def _conclusions(table: TableResult) -> list[str]:
    """Return the verdicts as sentences, those against KANs beside those for them."""
    found = []
    for verdict in ("better", "worse"):
        rows = [row for row in table.rows if row.verdict == verdict]
        if rows:
            named = [f"{row.name} by {_points(row)}" for row in rows]
            found.append(f"{verdict.capitalize()} than {table.comparison.baseline}: {', '.join(named)}.")
    equal = [row.name for row in table.rows if row.verdict == "not separated"]
    if equal:
        found.append(f"Not separated from {table.comparison.baseline}: {', '.join(equal)}.")
    return found


def _rates_at_the_edge(table: TableResult) -> str:
    """Return a sentence on the rows whose best learning rate is the smallest or largest that was tried."""
    rates = table.comparison.learning_rates
    if not rates:
        return ""
    parts = []
    for name, edge in (("smallest", min(rates)), ("largest", max(rates))):
        rows = [row.name for row in table.rows if _first(row)["lr"] == edge]
        parts += [f"the {name} learning rate tried, {edge:g}, was best for {', '.join(rows)}"] if rows else []
    return f"{'; '.join(parts).capitalize()}. A wider search may change these rows." if parts else ""


def _points(row: RowResult) -> str:
    assert row.contrast is not None
    difference = row.contrast.over_seeds
    low, high = sorted(map(abs, difference.interval))
    return f"{abs(difference.mean):.1f} points ({low:.1f} to {high:.1f})"


def _render_summary(tables: list[TableResult]) -> str:
    """Return one sentence with a link for each table that compares rows."""
    lines = []
    for table in tables:
        sentences = _conclusions(table)
        if sentences and table.baseline is not None:
            lines += _wrap(f"- [{table.name}](evidence.md#{table.name}): {' '.join(sentences)}", indent="  ")
    return "\n".join(lines) + "\n"


def _size(row: RowResult) -> int:
    return int(_first(row)["parameters"])


def _minutes(table: TableResult, row: RowResult) -> str:
    minutes = row.cpu_minutes(table.commit)
    return "" if minutes is None else f"{minutes:.2g}"


def _command(row: RowResult) -> str:
    return f"`{_first(row)['command']}`"


def _first(row: RowResult) -> Mapping[str, Any]:
    """Return the record of the first seed."""
    return next(iter(row.records.values()))


BLOCKS: dict[str, Callable[[list[TableResult]], str]] = {
    "tables": _render_tables,
    "summary": _render_summary,
}
"""Content of a block by its kind."""


def _score(row: RowResult) -> str:
    return f"{row.score.mean:.2f} ({_bounds(row.score)})"


def _difference(estimate: Estimate) -> str:
    return f"{estimate.mean:+.2f} ({_bounds(estimate, '+')})"


def _bounds(estimate: Estimate, sign: str = "") -> str:
    low, high = estimate.interval
    return f"{low:{sign}.2f} to {high:{sign}.2f}"


def _bar(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |".replace("  ", " ")


def _wrap(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, 130, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
