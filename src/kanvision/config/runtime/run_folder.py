"""State of a run, read from its folder."""

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
"""Value of `run.dir` while a command line is checked."""
# Every run folder has one of these from the start of the run.
MARKS = ("config.yaml", ".hydra")


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a run folder."""
    return sorted([*folder.glob("*.ckpt"), *folder.glob("checkpoints/*.ckpt")])


def unwritable(folder: Path) -> str:
    """Return the reason why a folder, which need not exist, is not writable; empty if it is."""
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        return f"{existing} is a file, not a folder"
    return "" if os.access(existing, os.W_OK | os.X_OK) else f"{existing} may not be written to"


def is_finished(folder: Path) -> bool:
    """Return True if the run has finished; its metrics are written last."""
    return (folder / "metrics.json").exists()


def is_resumable(folder: Path) -> bool:
    """Return True if the folder holds an unfinished run with a checkpoint."""
    return folder.is_dir() and not is_finished(folder) and bool(list_checkpoints(folder))


def newest_unfinished(home: Path, is_excluded: Callable[[Path], bool]) -> Path | None:
    """Return the resumable run below `home` with the newest checkpoint; None if there is none."""
    newest = {
        folder: max(path.stat().st_mtime for path in list_checkpoints(folder))
        for folder in home.glob("*")
        if is_resumable(folder)
    }
    newest_first = sorted(newest, key=lambda folder: newest[folder], reverse=True)
    return next((folder for folder in newest_first if not is_excluded(folder)), None)


def find_run_folder(resume: str) -> Path | None:
    """Return the run folder at a path, or of a checkpoint; None for a checkpoint outside of a run folder."""
    path = Path(resume)
    if path.is_dir() and path.name != "checkpoints":
        return path
    around = (path, *path.parents[:2])
    return next((folder for folder in around if any((folder / mark).exists() for mark in MARKS)), None)
