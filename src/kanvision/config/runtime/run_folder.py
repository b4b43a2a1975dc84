"""What the folder of a run tells about the run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

__all__ = [
    "CHOSEN_LATER",
    "find_run_folder",
    "is_finished",
    "is_resumable",
    "list_checkpoints",
    "newest_unfinished",
    "unwritable",
]

CHOSEN_LATER = "chosen when the run starts"
"""Stands for the folder while a command line is judged."""
# One of them is there from a run's first moment on.
MARKS = ("config.yaml", ".hydra")


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a run folder."""
    return sorted([*folder.glob("*.ckpt"), *folder.glob("checkpoints/*.ckpt")])


def unwritable(folder: Path) -> str:
    """Why nothing can be written into a folder that may have to be made; empty if it can."""
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        return f"{existing} is a file, not a folder"
    return "" if os.access(existing, os.W_OK | os.X_OK) else f"{existing} may not be written to"


def is_finished(folder: Path) -> bool:
    """Whether the run came to its end: the metrics are written last."""
    return (folder / "metrics.json").exists()


def is_resumable(folder: Path) -> bool:
    """Whether this is the folder of a run with a checkpoint to go on from."""
    return folder.is_dir() and not is_finished(folder) and bool(list_checkpoints(folder))


def newest_unfinished(home: Path, passes_over: Callable[[Path], bool]) -> Path | None:
    """Return the run below `home` that can go on, by its newest checkpoint; None if there is none.

    Args:
        home: Folder of the runs.
        passes_over: Tells a run that is not meant.
    """
    newest = {
        folder: max(path.stat().st_mtime for path in list_checkpoints(folder))
        for folder in home.glob("*")
        if is_resumable(folder)
    }
    newest_first = sorted(newest, key=lambda folder: newest[folder], reverse=True)
    return next((folder for folder in newest_first if not passes_over(folder)), None)


def find_run_folder(resume: str) -> Path | None:
    """The run folder that a path is, or that holds this checkpoint; None for a lonely checkpoint."""
    path = Path(resume)
    if path.is_dir() and path.name != "checkpoints":
        return path
    around = (path, *path.parents[:2])
    return next((folder for folder in around if any((folder / mark).exists() for mark in MARKS)), None)
