"""The link to the newest run is right at any time and never takes anything's place."""

import subprocess
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kanvision.app import run_record
from kanvision.app.run_record import environment, update_latest_link


def test_the_newest_run_wins_and_nothing_else_is_left(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "sweeps" / name).mkdir(parents=True)
        update_latest_link(tmp_path, tmp_path / "sweeps" / name)
        assert (tmp_path / "latest").resolve() == (tmp_path / "sweeps" / name).resolve()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "sweeps"]


def test_jobs_that_start_at_one_time_do_not_disturb_each_other(tmp_path: Path) -> None:
    folders = [tmp_path / "sweeps" / str(number) for number in range(40)]
    for folder in folders:
        folder.mkdir(parents=True)
    with warnings.catch_warnings(), ThreadPoolExecutor(8) as pool:
        warnings.simplefilter("error")
        list(pool.map(lambda folder: update_latest_link(tmp_path, folder), folders))
    assert (tmp_path / "latest").resolve() in folders
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "sweeps"]


def test_a_folder_of_that_name_stays(tmp_path: Path) -> None:
    (tmp_path / "latest" / "mine").mkdir(parents=True)
    with pytest.warns(UserWarning, match="does not point to"):
        update_latest_link(tmp_path, tmp_path / "run")
    assert (tmp_path / "latest" / "mine").is_dir()


@pytest.mark.parametrize(("told", "written"), [("0123456789ab", "0123456789ab"), ("", None), (None, None)])
def test_the_commit_of_an_image_is_what_it_was_told(
    monkeypatch: pytest.MonkeyPatch, told: str | None, written: str | None
) -> None:
    monkeypatch.setenv("PATH", "")  # no git
    monkeypatch.delenv("KANVISION_COMMIT", raising=False)
    if told is not None:
        monkeypatch.setenv("KANVISION_COMMIT", told)
    assert environment()["commit"] == written


def test_new_documents_leave_the_code_as_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Detects records of a comparison that mark all later ones as made by changed code."""
    for name in ("src/kanvision/code.py", "docs/page.md"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("")
    identity = ["-c", "user.name=a", "-c", "user.email=a"]
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", "-C", tmp_path, *words], check=True)
    monkeypatch.setattr(run_record, "PACKAGE", tmp_path / "src" / "kanvision")
    (tmp_path / "docs" / "page.md").write_text("changed")
    assert "+dirty" not in (environment()["commit"] or "+dirty")
    (tmp_path / "src" / "kanvision" / "code.py").write_text("changed")
    assert (environment()["commit"] or "").endswith("+dirty")
