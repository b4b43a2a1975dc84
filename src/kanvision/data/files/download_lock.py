"""Lock of a folder, which one process holds at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from kanvision.lazy import import_optional

__all__ = ["hold_download_lock"]

NAME = ".download.lock"


fcntl = import_optional("fcntl")  # Windows has none


@contextmanager
def hold_download_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder inside the block; processes that come later wait.

    If no file can be written, or the file system has no locks, no process waits. The lock file stays:
    removing it would let two processes hold a lock each.

    Args:
        folder: The folder, which is created if it does not exist.
    """
    with ExitStack() as stack:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context((folder / NAME).open("a"))
            if fcntl is not None:
                fcntl.lockf(file, fcntl.LOCK_EX)
        yield
