"""A folder is held by one process; it is free again when that is gone, here and on other machines."""

import errno
import json
import multiprocessing
import os
import threading
from dataclasses import asdict, replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from kanvision.config import FolderInUseError, live_owner, lock_folder, release_folder
from kanvision.config.runtime import run_lock
from kanvision.config.runtime.run_lock import NAME, Owner

FORK = multiprocessing.get_context("fork")


def hold(folder: Path, to_test: Connection, has_locks: bool = True, host: str | None = None) -> None:
    """Hold a folder until the test says that it is enough."""
    if not has_locks:
        run_lock.fcntl = None
    if host is not None:
        run_lock._machine = lambda: (host, "")  # type: ignore[assignment]
    run_lock.BEAT = run_lock.SETTLE = 0.05
    try:
        lock_folder(folder)
        to_test.send("")
    except FolderInUseError as error:
        to_test.send(str(error))
        return
    to_test.recv()
    release_folder(folder)


class Holder:
    """A process of its own that holds a folder, or is refused."""

    def __init__(self, folder: Path, **options: object) -> None:
        self.connection, theirs = FORK.Pipe()
        self.process = FORK.Process(target=hold, args=(folder, theirs), kwargs=options, daemon=True)
        self.process.start()

    def refusal(self) -> str:
        return str(self.connection.recv())

    def end(self) -> None:
        self.connection.send("enough")
        self.process.join()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


def leave_record(folder: Path, **changes: object) -> Owner:
    """A record as a killed process leaves it."""
    owner = replace(Owner.this_process(), **changes)  # type: ignore[arg-type]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NAME).write_text(json.dumps(asdict(owner)))
    return owner


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"BEAT": 0.05, "PATIENCE": 0.4, "RETRY": 0.2, "SETTLE": 0.05}.items():
        monkeypatch.setattr(run_lock, name, seconds)


@pytest.mark.parametrize("has_locks", [True, False])
def test_a_live_process_holds_a_folder_until_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_locks: bool
) -> None:
    if not has_locks:
        monkeypatch.setattr(run_lock, "fcntl", None)
    folder = tmp_path / "deep" / "run"
    holder = Holder(folder, has_locks=has_locks)
    assert holder.refusal() == ""
    owner = live_owner(folder)
    assert owner is not None
    assert owner.pid == holder.process.pid
    with pytest.raises(FolderInUseError, match=rf"(?s)run.dir={folder}.*process {owner.pid} on {owner.host}"):
        lock_folder(folder)
    holder.end()
    assert not (folder / NAME).exists()
    lock_folder(folder).release()


@pytest.mark.parametrize("has_locks", [True, False])
def test_a_killed_process_is_known_as_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_locks: bool
) -> None:
    if not has_locks:
        monkeypatch.setattr(run_lock, "fcntl", None)
    holder = Holder(tmp_path, has_locks=has_locks)
    assert holder.refusal() == ""
    holder.kill()
    assert (tmp_path / NAME).exists()
    assert live_owner(tmp_path) is None
    lock = lock_folder(tmp_path)
    assert lock.owner.pid == os.getpid()
    lock.release()


def test_a_number_that_another_process_has_now_is_not_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "fcntl", None)
    leave_record(tmp_path, pid=os.getppid(), start="1")
    lock_folder(tmp_path).release()


def test_many_at_once_and_one_gets_it(tmp_path: Path) -> None:
    holders = [Holder(tmp_path) for _ in range(5)]
    refusals = [holder.refusal() for holder in holders]
    assert refusals.count("") == 1
    winner = holders[refusals.index("")]
    assert all(f"process {winner.process.pid} on" in text for text in refusals if text)
    winner.end()


def test_a_process_on_another_machine_counts_as_dead_when_it_shows_no_life(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    owner = leave_record(tmp_path, host="node7", boot="another", job="slurm_7")
    lock_folder(tmp_path).release()
    assert f"checking for up to 0 s whether {owner} is still alive" in capfd.readouterr().err


def test_a_process_on_another_machine_lives_while_its_file_moves(tmp_path: Path) -> None:
    # its locks are not seen here, as on a file system that keeps them to each machine
    holder = Holder(tmp_path, has_locks=False, host="node7")
    assert holder.refusal() == ""
    with pytest.raises(FolderInUseError, match=rf"process {holder.process.pid} on node7, since"):
        lock_folder(tmp_path)
    holder.end()
    lock_folder(tmp_path).release()


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(run_lock.fcntl, "lockf", refuse)
    lock = lock_folder(tmp_path)
    assert live_owner(tmp_path) == lock.owner
    lock.release()
    assert live_owner(tmp_path) is None


def test_of_two_without_locks_the_last_record_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "fcntl", None)
    monkeypatch.setattr(run_lock, "SETTLE", 0.3)
    writer = threading.Timer(0.1, leave_record, [tmp_path], {"pid": 1, "host": "node7"})
    writer.start()
    with pytest.raises(FolderInUseError, match="process 1 on node7"):
        lock_folder(tmp_path)
    writer.join()


def test_a_process_takes_its_folder_once(tmp_path: Path) -> None:
    lock = lock_folder(tmp_path)
    assert lock_folder(tmp_path / "." / "..") is not lock
    assert lock_folder(tmp_path) is lock
    # a look at the file does not open it to others
    assert live_owner(tmp_path) == lock.owner
    assert "process" in Holder(tmp_path).refusal()
    release_folder(tmp_path.parent)
    lock.release()
    lock.release()


def test_a_forked_process_gives_nothing_back(tmp_path: Path) -> None:
    lock = lock_folder(tmp_path)
    child = FORK.Process(target=lock.release)
    child.start()
    child.join()
    assert (tmp_path / NAME).exists()
    assert "process" in Holder(tmp_path).refusal()
    lock.release()


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"host": 1}'])
def test_a_record_that_says_nothing_holds_nobody_up(tmp_path: Path, text: str) -> None:
    (tmp_path / NAME).write_text(text)
    assert live_owner(tmp_path) is None
    lock_folder(tmp_path).release()
