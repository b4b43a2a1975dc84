"""Words that start kanvision's programs, for the messages that tell a user what to type."""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["key_reference", "program", "with_programs"]


def program(name: str) -> str:
    """Return the words that start a program: `kanvision train` in that command, else `python train.py`."""
    return f"kanvision {name}" if _is_command() else f"python {name}.py"


def with_programs(text: str) -> str:
    """Return a text with `python train.py` and `python eval.py` as `program` names them."""
    for name in ("train", "eval"):
        text = text.replace(f"python {name}.py", program(name))
    return text


def key_reference() -> str:
    """Return the place that lists all keys: a page of the checkout, or a command."""
    return "kanvision info keys" if _is_command() else "docs/config.md"


def _is_command() -> bool:
    """Return True if the process was started as `kanvision` or `python -m kanvision`."""
    path = Path(sys.argv[0])
    return path.stem == "kanvision" or (path.name == "__main__.py" and path.parent.name == "kanvision")
