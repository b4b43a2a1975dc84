"""Queue: the listed runs without a record, in processes that a kill does no harm.

A run is `train.py` in a folder of its own, resumed from its latest checkpoint if there is one. A lock for
each run keeps two queues on one checkout from doing it twice.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .ledger import Ledger, make_record
from .plan import REPOSITORY, Item, Plan

__all__ = ["Queue", "log_path", "run_training", "train_elsewhere"]

IMPORTS = ["kanvision.app.train", "kanvision.tasks.classification"]
"""Modules that are imported once for all runs."""
SETTINGS = (
    *("callbacks=test_predictions", "~callbacks.prediction_images", "logger=none"),
    *("trainer.enable_progress_bar=false", "data.num_workers=0", "trainer.accelerator=cpu"),
)
"""Words of every run that change no number, except the device."""
BUSY = 75
"""Exit status of a run that another queue is doing."""
RETRY = 60.0
"""Seconds after which such a run is looked at again."""
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(IMPORTS)


@dataclass
class Queue:
    """Work on a plan.

    Attributes:
        plan: The list.
        ledger: Records of finished runs.
        runs: Folder of the runs.
        repository: Checkout whose train.py runs.
        failed: Runs that ended without a result, with the file of their output.
    """

    plan: Plan
    ledger: Ledger
    runs: Path
    repository: Path = REPOSITORY
    failed: dict[Item, Path] = field(default_factory=dict)

    def missing(self, tables: Sequence[str] = ()) -> list[Item]:
        """Return the listed runs without a record, in the order of the work."""
        items = self.plan.items(tables)
        return [item for item in items if not self.ledger.has(item, self.plan.tuning(item))]

    def words(self, item: Item) -> list[str]:
        """Return the words of a run; the runs that choose its learning rate must have records."""
        return self.plan.command(item, self._learning_rate(item))

    def _learning_rate(self, item: Item) -> float | None:
        return item.lr if item.lr is not None else self.ledger.choose_lr(self.plan.tuning(item))

    def is_ready(self, item: Item) -> bool:
        """Return True if all runs that a run depends on have records."""
        return all(map(self.ledger.has, self.plan.tuning(item)))

    def work(self, hours: float, processes: int, tables: Sequence[str] = ()) -> None:
        """Do the missing runs until there are none or the time is over; unfinished ones are saved.

        Args:
            hours: Time after which no run goes on.
            processes: Number of runs at a time.
            tables: Tables whose runs are done; empty: all.
        """
        end = time.monotonic() + 3600 * hours
        live: dict[Item, Any] = {}
        busy: dict[Item, float] = {}  # time at which a run of another queue is tried again
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            while time.monotonic() < end:
                for item in [item for item, process in live.items() if not process.is_alive()]:
                    self._finish(item, live.pop(item).exitcode, busy)
                if len(live) < processes:  # a look at the records reads all of them
                    later = {item for item, retry in busy.items() if time.monotonic() < retry}
                    others = {*live, *later, *self.failed}
                    waiting = [item for item in self.missing(tables) if item not in others]
                    ready = [item for item in waiting if self.is_ready(item)]
                    if not ready and not live and not later:
                        break
                    for item in ready[: processes - len(live)]:
                        live[item] = self._start(item)
                time.sleep(1)
        finally:
            for process in live.values():
                process.terminate()  # train.py saves a checkpoint
            for item, process in live.items():
                process.join()
                self._record(item)  # it may have ended by itself

    def folder(self, item: Item) -> Path:
        """Return the folder of a run; a compared run with another learning rate has another one."""
        lr = self._learning_rate(item)
        return self.runs / item.path.with_name(item.name if lr is None else f"{item.name}_rate_{lr:g}")

    def _start(self, item: Item) -> Any:
        folder = self.folder(item)
        folder.parent.mkdir(parents=True, exist_ok=True)
        print(f"{time.strftime('%H:%M:%S')} {item}", flush=True)
        process = FORKS.Process(target=run_training, args=(self.words(item), folder, self.repository))
        process.start()
        return process

    def _finish(self, item: Item, status: int | None, busy: dict[Item, float]) -> None:
        if status == BUSY:
            busy[item] = time.monotonic() + RETRY
        elif not self._record(item):
            self.failed[item] = log_path(self.folder(item))
            print(f"{item} failed: {self.failed[item]}", file=sys.stderr, flush=True)

    def _record(self, item: Item) -> bool:
        """Write the record of a finished run and remove its checkpoints; return False without a result."""
        folder = self.folder(item)
        if not (folder / "metrics.json").is_file():
            return False
        self.ledger.write(item, make_record(folder, item, self.words(item)))
        for path in (folder / "checkpoints").glob("*.ckpt"):
            path.unlink()  # records are all that is needed from here on
        return True


def log_path(folder: Path) -> Path:
    """Return the file of the output of a run; a name such as lr_0.001 has a point that is no suffix."""
    return folder.with_name(f"{folder.name}.log")


def train_elsewhere(words: Sequence[str], repository: Path) -> dict[str, Any]:
    """Run `train.py` in a process of its own and a temporary folder, and return its metrics.

    Raises:
        ValueError: The run fails; the message has its output.
    """
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root, "run")
        process = FORKS.Process(target=run_training, args=(list(words), folder, repository))
        process.start()
        process.join()
        results, log = folder / "metrics.json", log_path(folder)
        if not results.is_file():
            raise ValueError(log.read_text("utf-8") if log.is_file() else "no output")
        found: dict[str, Any] = json.loads(results.read_text("utf-8"))
    return found


def run_training(words: Sequence[str], folder: Path, repository: Path) -> None:
    """Run `train.py` in this process, with its output in `<folder>.log`, unless it is running elsewhere."""
    lock = os.open(folder.with_name(f"{folder.name}.lock"), os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(BUSY)
    if (folder / "metrics.json").is_file():
        return
    log = os.open(log_path(folder), os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout, sys.stderr = (
        open(descriptor, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
        for descriptor in (1, 2)
    )
    os.chdir(repository)
    sys.argv = ["train.py", *words, *SETTINGS, f"run.dir={folder}", "resume=auto"]
    sys.path.insert(0, str(repository))
    try:
        runpy.run_path("train.py", run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # a forked process does not call them by itself
