"""Work on a folder that one process does at a time."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["one_at_a_time"]

NAME = ".download.lock"


def _optional(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


fcntl = _optional("fcntl")  # Windows has none


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Let one process after the other into the block; those that come later wait.

    Where no file can be written, or the file system has no locks, nobody waits. The file of the lock stays:
    to remove it would let two in.

    Args:
        folder: What the block works on; made if it is not there.
    """
    with ExitStack() as stack:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context((folder / NAME).open("a"))
            if fcntl is not None:
                fcntl.lockf(file, fcntl.LOCK_EX)
        yield
