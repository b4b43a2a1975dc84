"""Page of published results, docs/papers.md: rows of conf/tables with our numbers, and further systems.

docs/results/papers.yaml has its chapters: prose, names of tables, and systems that no row of a table runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import yaml
from pydantic import Field

from kanvision.config.cards import scores, tables
from kanvision.config.experiments import Experiment, ExperimentTable, list_experiments
from kanvision.config.schema.base import Section
from kanvision.config.schema.keys import format_yaml
from kanvision.config.yaml_files import YamlLoader

from .plan import read_table_file

__all__ = ["PAPERS", "Ours", "Papers", "render_papers"]

PAPERS = "docs/results/papers.yaml"
OWN = "kanvision"
"""Start of the source of a table that repeats no publication."""
HEAD = ("system", "words", "parameters", "published", "source", "our number", "command", "hardware, cost")
NOTICE = "<!-- written from conf/tables and docs/results by python -m benchmarks.evidence --pages -->"


class Ours(NamedTuple):
    """Our result of a row, as text."""

    number: str
    cost: str


class System(Section):
    """Published system that is no row of conf/tables."""

    system: str
    paper: str
    """Title, number in arXiv or venue."""
    protocol: str
    """Data, protocol and baselines of the number."""
    number: str
    """Number as reported; `none found` if the source gives none."""
    source: Literal["paper", "abstract", "authors' repository", "second-hand"]
    """Origin of the number."""
    runs: list[str] = Field([])
    """Words of commands that train it here, one for each variant."""

    @property
    def cells(self) -> list[str]:
        """Cells of its row."""
        commands = [f"`python train.py {words}`" for words in self.runs]
        first = self.runs[0].split() if self.runs else []
        words = [word for word in first if word.startswith(("model=", "basis="))]
        published = f"{self.number}; {self.protocol}"
        source = f"{self.paper}; {self.source}"
        return [self.system, _code(words), "", published, source, "", ", ".join(commands), ""]


class Chapter(Section):
    """Part of the page."""

    title: str
    text: str = ""
    """Prose in Markdown."""
    tables: list[str] = Field([])
    """Files of conf/tables, without suffix."""
    systems: list[System] = Field([])
    """Further systems."""


class Papers(Section):
    """Content of docs/results/papers.yaml."""

    text: str
    """Head of the page, in Markdown."""
    omitted: dict[str, str]
    """Reason for each table with published numbers that the page does not have."""
    chapters: list[Chapter]

    @classmethod
    def load(cls, repository: Path) -> Papers:
        """Read the chapters, and check that they have every table with published numbers once.

        Raises:
            ValueError: A key is unknown, or a table is missing, unknown or named twice.
        """
        papers = cls.model_validate(yaml.load((repository / PAPERS).read_text("utf-8"), YamlLoader))
        rows = list_experiments([repository / "conf"]).values()
        published = {row.table.stem for row in rows if row.published}
        named = [*papers.omitted, *(name for chapter in papers.chapters for name in chapter.tables)]
        faults = [f"{name} is in no chapter, and not omitted" for name in sorted(published - {*named})]
        faults += [f"{name} is no file of conf/tables" for name in named if name not in tables(rows)]
        faults += [f"{name} is named twice" for name in sorted({*named}) if named.count(name) > 1]
        if faults:
            raise ValueError(f"{PAPERS}: {'; '.join(faults)}")
        return papers


def render_papers(repository: Path, ours: Mapping[str, Ours]) -> str:
    """Return the page.

    Args:
        repository: Root of the checkout.
        ours: Our result of each experiment that has been run, by its name.
    """
    papers = Papers.load(repository)
    found = tables(list_experiments([repository / "conf"]).values())
    parts = [f"# Published results and ours\n\n{NOTICE}\n\n{papers.text}"]
    for chapter in papers.chapters:
        parts.append(f"## {chapter.title}\n" + (f"\n{chapter.text}" if chapter.text else ""))
        parts += [_render_table(found[name], ours) for name in chapter.tables]
        if chapter.systems:
            heading = "### Other systems\n\n" if chapter.tables else ""
            parts.append(heading + _render_rows(system.cells for system in chapter.systems))
    return "\n".join(parts)


def _render_table(rows: list[Experiment], ours: Mapping[str, Ours]) -> str:
    """Return a table of conf/ with what its rows share above it."""
    path = rows[0].table
    table = read_table_file(path)
    short = dict(zip((row.name for row in rows), table.rows, strict=True))
    shared = {"Source": table.source, "Protocol": table.protocol, "Hardware": table.hardware}
    lines = [f"### {table.title}", "", f"- Table: `conf/tables/{path.name}`"]
    lines += [f"- {name}: {text}" for name, text in {**shared, "Cost": table.cost}.items() if text]
    lines += [f"- Remark: {remark}" for remark in table.remarks]
    remarks: dict[str, list[str]] = {}
    for row in rows:
        for remark in row.remarks[len(table.remarks) :]:
            remarks.setdefault(remark, []).append(f"`{short[row.name]}`")
    lines += [f"- Remark on {', '.join(names)}: {remark}" for remark, names in remarks.items()]
    cells = (_cells(row, table, short[row.name], ours.get(row.name)) for row in rows)
    return "\n".join([*lines, "", _render_rows(cells)])


def _cells(row: Experiment, table: ExperimentTable, short: str, ours: Ours | None) -> list[str]:
    """Return the cells of an experiment; what it shares with its table stands above."""
    own = [
        "" if text == common else text
        for text, common in (
            (row.title, table.title),
            (row.protocol, table.protocol),
            (row.source, table.source),
            (row.hardware, table.hardware),
            (row.cost, table.cost),
        )
    ]
    title, protocol, source, hardware, cost = own
    groups = ["model"] if row.set.get("model.plain") is True else ["model", "basis"]
    words = [f"{group}={row.choose[group]}" for group in groups if group in row.choose]
    words += [] if "basis" in groups else ["model.plain=true"]
    published = scores(row.published)
    if row.published and row.sweep:
        runs = [f"{key}={','.join(map(format_yaml, values))}" for key, values in row.sweep.items()]
        published += f" for {_code(runs)}"
    elif not row.published and not row.source.startswith(OWN):
        published = row.expected or ""
    return [
        title or f"`{short}`",
        _code(words),
        f"{row.params:,}" if isinstance(row.params, int) else row.params or "",
        _join(published, protocol),
        source or "",
        ours.number if ours else "",
        f"`{row.command}`",
        _join(hardware, cost, f"ours: {ours.cost}" if ours else ""),
    ]


def _code(words: Iterable[str]) -> str:
    return " ".join(f"`{word}`" for word in words)


def _join(*texts: str | None) -> str:
    return "; ".join(filter(None, texts))


def _render_rows(rows: Iterable[list[str]]) -> str:
    lines = ["".join(f"| {cell} " if cell else "| " for cell in cells) + "|" for cells in (HEAD, *rows)]
    return "\n".join([lines[0], "|---" * len(HEAD) + "|", *lines[1:], ""])
