"""Lock of a folder: one live process at a time writes into it, on any number of machines.

`run.lock` holds the record of its process. While the process lives, the kernel locks the file (the lock ends
with the process in any case), and the modification time of the file changes every few seconds. On one machine
the lock of the kernel counts. Another machine may not see that lock: many network file systems keep locks on
one machine, and some have none. There a process counts as dead when the time of its file has not changed for
`PATIENCE` seconds.
"""

from __future__ import annotations

import atexit
import errno
import functools
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from kanvision.config.errors import ConfigError, Problem
from kanvision.lazy import import_optional

__all__ = [
    "FolderInUseError",
    "Owner",
    "RunLock",
    "live_owner",
    "lock_folder",
    "process_start",
    "release_folder",
]

NAME = "run.lock"
BEAT = 5.0
"""Seconds between two updates of the modification time."""
PATIENCE = 20.0
"""Seconds without an update after which a process on another machine counts as dead."""
RETRY = 0.5
"""Seconds that a process may hold a lock to read the record, or before it writes its own."""
SETTLE = 1.0
"""Seconds after which all machines read the last record, on a file system without locks."""


Value = TypeVar("Value")
fcntl = import_optional("fcntl")  # Windows has none


@dataclass(frozen=True)
class Owner:
    """Process that holds a folder.

    Attributes:
        host: Name of the machine.
        boot: Identifier of the last start of the machine, which distinguishes machines of the same name.
        pid: Number of the process.
        start: Start of the process in ticks since that of the machine; distinguishes processes of one number.
        since: Date and time of the lock.
        job: Name of the torchrun or Slurm job.
    """

    host: str
    boot: str
    pid: int
    start: str
    since: str
    job: str | None = None

    def __str__(self) -> str:
        job = f", job {self.job}" if self.job else ""
        return f"process {self.pid} on {self.host}{job}, since {self.since}"

    @classmethod
    def this_process(cls, job: str | None = None) -> Owner:
        """Return the record of this process, as of now."""
        since = datetime.now().astimezone().isoformat(" ", "seconds")
        return cls(*_machine(), os.getpid(), process_start(os.getpid()), since, job)

    def is_here(self) -> bool:
        """Return True if the process is, or was, on this machine."""
        return (self.host, self.boot) == _machine()

    def is_alive(self) -> bool:
        """Return True if the process, which is on this machine, still runs."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return process_start(self.pid) == self.start


class FolderInUseError(ConfigError):
    """Error of a folder that another live process writes into."""

    def __init__(self, folder: Path, owner: Owner | None, key: str) -> None:
        who = owner or "a process that has just started"
        why = f"a live run writes into this folder: {who}"
        stop = f", or end it by `kill {owner.pid}` on {owner.host} (a training saves first)" if owner else ""
        fix = f"wait until it ends{stop}, or choose another {key}"
        super().__init__([Problem((key,), (f"{key}={folder}",), why, fix)], "the command line")


class RunLock:
    """Lock of this process on a folder, until its release or the end of the process."""

    def __init__(self, path: Path, descriptor: int, owner: Owner, *, is_new: bool = False) -> None:
        self.owner = owner
        self._path, self._descriptor, self._is_new = path, descriptor, is_new
        self._over = threading.Event()
        threading.Thread(target=self._beat, name="run.lock", daemon=True).start()
        atexit.register(self.release)

    def __enter__(self) -> RunLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            with suppress(OSError):
                os.utime(self._descriptor if os.utime in os.supports_fd else self._path)

    def release(self) -> None:
        """Release the folder and remove the file; no effect a second time or in a forked process."""
        if self._over.is_set() or os.getpid() != self.owner.pid:
            return
        self._over.set()
        atexit.unregister(self.release)
        _HELD.pop(self._path.resolve(), None)
        with suppress(OSError):
            if _is_same_file(self._descriptor, self._path):
                self._path.unlink()  # before the release: nobody locks a removed file
                if self._is_new:
                    self._path.parent.rmdir()  # fails, as intended, if the folder is not empty
        os.close(self._descriptor)


_HELD: dict[Path, RunLock] = {}
"""Locks of this process; to open and close such a file a second time would release its lock."""


def lock_folder(folder: Path, job: str | None = None, key: str = "run.dir") -> RunLock:
    """Lock a folder for this process; make it if it does not exist.

    Returns:
        The lock; the present one if this process holds the folder already.

    Raises:
        FolderInUseError: Another live process holds it.
        OSError: The folder or the file cannot be written.
    """
    is_new, path = not folder.exists(), folder / NAME
    if (held := _held(path)) is not None:
        return held
    try:
        descriptor, owner = _acquire(path, job)
    except _HeldError as error:
        raise FolderInUseError(folder, error.owner, key) from None
    _HELD[path.resolve()] = lock = RunLock(path, descriptor, owner, is_new=is_new)
    return lock


def release_folder(folder: Path) -> None:
    """Release a folder, if this process holds it."""
    if (held := _held(folder / NAME)) is not None:
        held.release()


def live_owner(folder: Path) -> Owner | None:
    """Return the process that holds a folder, without waiting; None if there is none.

    A process on another machine without a lock of the kernel is not detected; `lock_folder` waits for it.
    """
    path = folder / NAME
    if (held := _held(path)) is not None:
        return held.owner
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        owner, is_free = _read(descriptor), _try_lock(descriptor, exclusive=False)
    finally:
        os.close(descriptor)
    if is_free is None and owner is not None:
        return owner if owner.is_here() and owner.is_alive() else None
    return owner if is_free is False else None


def process_start(pid: int) -> str:
    """Return when a process of this machine started, in ticks since the machine did; empty if unknown."""
    try:
        # Field 22; the second one is the program's name, which may hold spaces.
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[19]
    except OSError:  # not Linux, or no such process
        return ""


def _held(path: Path) -> RunLock | None:
    """Return the lock of this process on a file; a lock from before a fork belongs to the parent."""
    lock = _HELD.get(path.resolve())
    return lock if lock is not None and lock.owner.pid == os.getpid() else None


class _HeldError(Exception):
    def __init__(self, owner: Owner | None) -> None:
        super().__init__(owner)
        self.owner = owner


def _acquire(path: Path, job: str | None) -> tuple[int, Owner]:
    """Lock the file and write the record of this process into it."""
    dead: Owner | None = None
    while True:
        descriptor, is_locked = _open(path)
        owner = _read(descriptor)
        if owner is None or owner == dead or (is_locked and owner.is_here()):
            break
        os.close(descriptor)  # a network file system updates the time of a file only when it is opened again
        if owner.is_alive() if owner.is_here() else _is_updated(path, owner):
            raise _HeldError(owner)
        dead = owner
    owner = Owner.this_process(job)
    try:
        try:
            _write(descriptor, owner)
        except OSError:
            path.unlink()  # the record may be incomplete
            raise
        if not is_locked:
            _settle(path, owner)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, owner


def _open(path: Path) -> tuple[int, bool]:
    """Open the file of a lock, and lock it; False if the file system has no locks."""
    deadline = time.monotonic() + RETRY
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            if time.monotonic() > deadline:
                raise
            continue  # the other process has just removed its unused folder
        is_free = _try_lock(descriptor, exclusive=True)
        if is_free is None or (is_free and _is_same_file(descriptor, path)):
            return descriptor, bool(is_free)
        owner = _read(descriptor)
        os.close(descriptor)
        if time.monotonic() > deadline:
            raise _HeldError(owner)
        time.sleep(RETRY / 10)


def _try_lock(descriptor: int, *, exclusive: bool) -> bool | None:
    """Lock a file without waiting; False if another process has locked it, None if there are no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.lockf(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EACCES, errno.EAGAIN) else None
    return True


def _is_same_file(descriptor: int, path: Path) -> bool:
    """Return True if an open file is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _read(descriptor: int) -> Owner | None:
    """Return the owner in an open file; None if it has no readable record."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    try:
        return Owner(**json.loads(os.read(descriptor, 4096)))
    except (ValueError, TypeError):
        return None


def _write(descriptor: int, owner: Owner) -> None:
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.ftruncate(descriptor, 0)
    with os.fdopen(descriptor, "w", closefd=False, encoding="utf-8") as file:
        json.dump(asdict(owner), file)
    os.fsync(descriptor)  # other machines read it from now on


def _settle(path: Path, owner: Owner) -> None:
    """Without locks, let the last of several processes that write at the same time be the owner."""
    time.sleep(SETTLE)
    found = _peek(path, _read)
    if found is not None and found != owner:
        raise _HeldError(found)


def _peek(path: Path, read: Callable[[int], Value]) -> Value | None:
    """Return what a function reads from a file that is opened again; None if there is no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return read(descriptor)
    finally:
        os.close(descriptor)


def _modified_ns(descriptor: int) -> int:
    return os.fstat(descriptor).st_mtime_ns


def _is_updated(path: Path, owner: Owner) -> bool:
    """Return True if a process on another machine, whose clock may differ, updates its file."""
    print(
        f"{path}: checking for up to {PATIENCE:.0f} s whether {owner} is still alive",
        file=sys.stderr,
        flush=True,
    )
    first = _peek(path, _modified_ns)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        time.sleep(BEAT / 10)
        if (now := _peek(path, _modified_ns)) != first:
            return now is not None
    return False


@functools.cache
def _machine() -> tuple[str, str]:
    """Return the name of this machine and the identifier of its latest start."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return socket.gethostname(), boot.read_text("utf-8").strip() if boot.exists() else ""
