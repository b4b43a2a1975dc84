"""Table of bad inputs and the message of the program for each."""

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
# Error messages for bad inputs

This page is generated: `python -m tests.bad_inputs > docs/bad_inputs.md` gives {count} bad inputs to the
program, in an empty folder (…), and records the messages. The tests repeat this and check that each message
has the file, the key, the value and a correction. Messages about data end with the expected files and their
source, messages about a command line with a hint to the help; both are omitted here. One message lists all
mistakes of an input.
"""


def document() -> str:
    """Return the whole page."""
    parts = [INTRO.format(count=sum(map(len, ALL.values())))]
    for title, cases in ALL.items():
        rows = [row(case, answer(case)) for case in cases]
        parts.append("\n".join([f"## {title}\n", "| input | message |", "|---|---|", *rows, ""]))
    return "\n".join(parts)


def row(case: Case, text: str) -> str:
    """Return a row of the table."""
    lines = [html.escape(line.strip(), quote=False).replace("|", "\\|") for line in text.splitlines()]
    return f"| {case.what} | {'<br>'.join(filter(None, lines))} |"
