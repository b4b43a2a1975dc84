"""Removal of old runs (`run.keep`)."""

from __future__ import annotations

import shutil
from pathlib import Path

from kanvision.config import live_owner
from kanvision.config.runtime.run_folder import is_finished

__all__ = ["remove_old_runs"]


def remove_old_runs(folder: Path, keep: int) -> list[Path]:
    """Remove the oldest finished runs beside a run, so that at most `keep` finished ones are left.

    Only folders with a `config.yaml` and a `metrics.json`, which a run writes last, are removed: those of
    unfinished and of live runs stay, as do links and all other files.

    Args:
        folder: Folder of a run that has just finished, which stays.
        keep: Number of finished runs to keep, this one included.

    Returns:
        The removed folders.
    """
    others = [other for other in folder.parent.iterdir() if other.is_dir() and not other.is_symlink()]
    finished = [
        other
        for other in others
        if is_finished(other) and (other / "config.yaml").is_file() and not other.samefile(folder)
    ]
    finished = [other for other in finished if live_owner(other) is None]
    finished.sort(key=lambda other: (other / "metrics.json").stat().st_mtime)
    removed = finished[: max(0, len(finished) - (keep - 1))]
    for other in removed:
        shutil.rmtree(other)
    return removed
