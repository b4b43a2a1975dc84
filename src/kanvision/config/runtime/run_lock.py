"""The lock of a folder: one live run writes into it, and a dead one is known as dead on every machine.

`run.lock` names the process that holds it. While it lives, the kernel holds a lock on the file, which goes
with the process however it ends, and the file's time moves every few seconds. On the same machine the
kernel's lock decides. Another machine may not see that lock (many network file systems keep locks to one
machine, some have none), so a record from elsewhere counts as dead only after its file has stood still.
"""

from __future__ import annotations

import atexit
import errno
import functools
import importlib
import json
import os
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kanvision.config.errors import ConfigError, Problem

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
"""Seconds between two signs of life."""
PATIENCE = 20.0
"""Seconds without one after which a process on another machine counts as dead."""
RETRY = 0.5
"""Seconds for which a lock may be held by a process that only looks, or has not written its record yet."""
SETTLE = 1.0
"""Seconds after which, on a file system without locks, the last record written is everybody's."""


def _optional(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


fcntl = _optional("fcntl")  # Windows has none


@dataclass(frozen=True)
class Owner:
    """The process that holds a folder.

    Attributes:
        host: Name of its machine.
        boot: Identifier of the machine's latest start, which tells machines of one name apart.
        pid: Its number there.
        start: Its start in ticks since the machine's, which tells processes of one number apart.
        since: Date and time at which it took the folder.
        job: Name of its torchrun or Slurm job.
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
        """Whether it is, or was, a process of this machine."""
        return (self.host, self.boot) == _machine()

    def is_alive(self) -> bool:
        """Whether a process of this machine is still running."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return process_start(self.pid) == self.start


class FolderInUseError(ConfigError):
    """Another live run writes into the folder.

    Args:
        folder: The folder.
        owner: Who holds it; None: it has not said yet.
        key: The setting that names the folder.
    """

    def __init__(self, folder: Path, owner: Owner | None, key: str) -> None:
        who = owner or "a process that has just started"
        why = f"a live run writes into this folder: {who}"
        stop = f", or end it by `kill {owner.pid}` on {owner.host} (a training saves first)" if owner else ""
        fix = f"wait for its end{stop}, or choose another {key}"
        super().__init__([Problem((key,), (f"{key}={folder}",), why, fix)], "the command line")


class RunLock:
    """A folder that this process holds until it releases it or ends; made by `lock_folder`."""

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
        """Give the folder back and remove the file; does nothing a second time or in a forked process."""
        if self._over.is_set() or os.getpid() != self.owner.pid:
            return
        self._over.set()
        atexit.unregister(self.release)
        _HELD.pop(self._path.resolve(), None)
        with suppress(OSError):
            if _is_at(self._descriptor, self._path):
                self._path.unlink()  # before the lock goes: nobody locks a file that is about to vanish
                if self._is_new:
                    self._path.parent.rmdir()  # fails, rightly, when something was written into it
        os.close(self._descriptor)


_HELD: dict[Path, RunLock] = {}
"""Locks of this process; to open and close such a file a second time would give its lock up."""


def lock_folder(folder: Path, job: str | None = None, key: str = "run.dir") -> RunLock:
    """Take a folder for this process, and make it if it is not there.

    Args:
        folder: The folder.
        job: Name of the job that this process belongs to.
        key: The setting that names the folder, for messages.

    Returns:
        The lock; the one from before if this process holds the folder already.

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
    """Give back a folder, if this process holds it."""
    if (held := _held(folder / NAME)) is not None:
        held.release()


def live_owner(folder: Path) -> Owner | None:
    """Return the process that holds a folder, as far as one look can tell; None if nobody does.

    A process of another machine without a lock of the kernel is not seen; `lock_folder` waits for such a one.
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
    """Return the lock that this process has on a file; one from before it was forked is its parent's."""
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
        os.close(descriptor)  # a network file system shows a file's new time only to who opens it anew
        if owner.is_alive() if owner.is_here() else _moves(path, owner):
            raise _HeldError(owner)
        dead = owner
    owner = Owner.this_process(job)
    try:
        try:
            _write(descriptor, owner)
        except OSError:
            path.unlink()  # half of it may be there
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
            continue  # its holder has just removed the folder, which it had made and not used
        is_free = _try_lock(descriptor, exclusive=True)
        if is_free is None or (is_free and _is_at(descriptor, path)):
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


def _is_at(descriptor: int, path: Path) -> bool:
    """Check that an open file is still the one of this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _read(descriptor: int) -> Owner | None:
    """Return what an open file says of its owner; None if it says nothing that can be read."""
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
    os.fsync(descriptor)  # other machines see it from now on


def _settle(path: Path, owner: Owner) -> None:
    """Where there are no locks, let the last of several that have written at one time be the owner."""
    time.sleep(SETTLE)
    found = _peek(path)
    if found is not None and found != owner:
        raise _HeldError(found)


def _peek(path: Path) -> Owner | None:
    """Return what a file says of its owner, opened anew; None if there is no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return _read(descriptor)
    finally:
        os.close(descriptor)


def _moves(path: Path, owner: Owner) -> bool:
    """Watch for signs of life of a process on another machine, whose clock may differ."""
    print(
        f"{path}: looks for up to {PATIENCE:.0f} s whether {owner} is still alive",
        file=sys.stderr,
        flush=True,
    )
    first = _time_of(path)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        time.sleep(BEAT / 10)
        if (now := _time_of(path)) != first:
            return now is not None
    return False


def _time_of(path: Path) -> int | None:
    """Return when a file was last written, opened anew; None if it is gone."""
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None


@functools.cache
def _machine() -> tuple[str, str]:
    """Return the name of this machine and the identifier of its latest start."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return socket.gethostname(), boot.read_text("utf-8").strip() if boot.exists() else ""
