"""Settings of the whole suite, and the seconds of each folder beside its budget."""

import gc
import os
import shutil
import signal
from collections import Counter
from pathlib import Path

import pytest
import torch

LONGEST = (
    "tests/test_readme.py",
    "tests/test_contributing.py",
    "tests/cli/",
    "tests/callbacks/",
    "tests/app/",
)
SMOKE = "test_smoke.py"
MEMORY = Path("/dev/shm")
ROOM = 8 * 2**30  # bytes; the tests keep about 3 GiB
BUDGET = {
    "analysis": 30,
    "app": 60,
    "bad_inputs": 10,
    "bases": 30,
    "benchmarks": 15,
    "callbacks": 80,
    "checkpoints": 40,
    "cli": 90,
    "config": 125,
    "data": 75,
    "docker": 5,
    "expansion": 40,
    "export": 40,
    "layers": 70,
    "losses": 5,
    "metrics": 5,
    "models": 80,
    "ops": 30,
    "optim": 10,
    "prediction": 5,
    "sweep": 15,
    "tasks": 10,
    "other": 60,
}
"""Seconds of all tests of a folder, one process on a quiet core; their sum is about 8 minutes of two."""


@pytest.fixture(autouse=True, scope="session")
def _one_thread_each():
    """Several test processes share the cores; threads that wait for each other would slow all of them."""
    torch.set_num_threads(1)


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    """Work in an empty folder: a run is refused where nothing can be written."""
    monkeypatch.chdir(tmp_path)


def pytest_configure() -> None:
    """Undo settings of the shell: ignored signals (`nohup`), and programs that compile every module anew.

    Temporary files are in memory where there is room: on a disk, a checkpoint waits until it is written.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first, so that no process is left with one of them at the end."""
    order = [*LONGEST, ""]
    items.sort(key=lambda item: next(i for i, start in enumerate(order) if item.nodeid.startswith(start)))


def pytest_collection_finish() -> None:
    """Leave the modules and the tests themselves out of garbage collection, which each training starts."""
    gc.freeze()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skip the other files when only the smoke test runs: importing them takes longer than the test."""
    is_other = collection_path.suffix == ".py" and collection_path.name != SMOKE
    return True if is_other and config.getoption("markexpr") == "smoke" else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the seconds of each folder beside its budget; they are for reading, no run fails by them."""
    seconds: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                path = report.nodeid.partition("::")[0]
                folder, slash, _ = path.removeprefix("tests/").partition("/")
                seconds[folder if slash else "other"] += report.duration
    if sum(seconds.values()) > 60:
        terminalreporter.section("seconds by folder (budget)")
        for folder, spent in seconds.most_common():
            over = " over" if spent > BUDGET[folder] else ""
            terminalreporter.write_line(f"{folder:12} {spent:6.0f} ({BUDGET[folder]}){over}")
