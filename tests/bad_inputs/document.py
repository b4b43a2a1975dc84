"""The table of bad inputs and of what the program says to each."""

from __future__ import annotations

import html

from . import checkpoints, configurations, files, surroundings
from .case import Case, answer

__all__ = ["ALL", "document", "row"]

ALL: dict[str, tuple[Case, ...]] = {
    "Files": files.CASES,
    "Configurations": configurations.CASES,
    "Checkpoints": checkpoints.CASES,
    "Surroundings": surroundings.CASES,
}
INTRO = """\
# Bad inputs, and what is said to them

Each row was tried: `python -m tests.bad_inputs > docs/bad_inputs.md` gives {count} inputs to the program,
in an empty folder (…), and writes down its answers. The tests give the same ones, look for file, key, value
and what would be right in each answer, and for the row in this table. Answers about data end with the
expected tree and where to get the data, those about a command line with where help is; both are left out.
Several mistakes are named in one answer.
"""


def document() -> str:
    """The whole text."""
    parts = [INTRO.format(count=sum(map(len, ALL.values())))]
    for title, cases in ALL.items():
        rows = [row(case, answer(case)) for case in cases]
        parts.append("\n".join([f"## {title}\n", "| input | answer |", "|---|---|", *rows, ""]))
    return "\n".join(parts)


def row(case: Case, text: str) -> str:
    """A row of the table."""
    lines = [html.escape(line.strip(), quote=False).replace("|", "\\|") for line in text.splitlines()]
    return f"| {case.what} | {'<br>'.join(filter(None, lines))} |"
