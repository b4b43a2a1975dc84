"""Runs that run.keep removes, and those that it must not."""

import os
from pathlib import Path

from kanvision.app.run_record import remove_old_runs
from kanvision.config import lock_folder


def make_run(folder: Path, age: int, *, finished: bool = True) -> Path:
    folder.mkdir()
    (folder / "config.yaml").write_text("seed: 1")
    if finished:
        (folder / "metrics.json").write_text("{}")
        os.utime(folder / "metrics.json", (1000 - age, 1000 - age))
    return folder


def test_only_the_oldest_finished_runs_go(tmp_path: Path) -> None:
    """Catches the removal of unfinished, live and foreign folders, and of the run itself."""
    elsewhere = make_run(tmp_path / "elsewhere", 100)
    home = tmp_path / "runs"
    home.mkdir()
    now = make_run(home / "now", 50)  # older than the others by its clock, and stays
    old, older, live = (
        make_run(home / name, age) for name, age in (("old", 10), ("older", 20), ("live", 90))
    )
    unfinished = make_run(home / "unfinished", 80, finished=False)
    (home / "notes").mkdir()
    (home / "link").symlink_to(elsewhere)
    lock = lock_folder(live)
    assert remove_old_runs(now, keep=2) == [older]
    assert all(path.exists() for path in (now, old, live, unfinished, home / "notes", elsewhere))
    lock.release()
    assert remove_old_runs(now, keep=1) == [live, old]
    assert now.exists()
