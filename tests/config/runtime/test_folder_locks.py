"""Commands that are given at the same time get folders of their own; one folder takes one live run."""

import os
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kanvision.config.runtime.run_lock import NAME
from tests.programs import Program

# Trains nothing: leaves its mark in its folder, and stays until it may end. All start in one second.
PROGRAM = """
import datetime, os, sys, time
from pathlib import Path
import hydra
import yaml
from kanvision.config import (
    ConfigError, ConfigGroups, exit_with_message, parse_train, register_resolvers, to_primitive
)
from kanvision.config.conf_source import register_conf
from kanvision.config.runtime import resolvers
from kanvision.sweep import lock_job_folder, sweep_job

CONF, END = Path(sys.argv.pop(1)), Path(sys.argv.pop(1))

class Clock:
    def now():
        return datetime.datetime(2026, 1, 2, 3, 4, 5)

@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def main(cfg):
    with sweep_job():
        with exit_with_message(ConfigError):
            lock_job_folder()
            config = parse_train(cfg, ConfigGroups([CONF]))
        folder = Path(config.run.dir)
        (folder / "config.yaml").write_text(yaml.safe_dump(to_primitive(config)))
        (folder / "checkpoints").mkdir(exist_ok=True)
        (folder / "checkpoints" / "last.ckpt").touch()
        with (folder / "seeds").open("a") as file:
            file.write(f"{config.seed} ")
        print("in", folder, flush=True)
        while not END.exists():
            time.sleep(0.01)
        (folder / "metrics.json").write_text('{"seed": 0}')

resolvers.datetime = Clock
register_resolvers()
register_conf([CONF])
main()
"""
STEM = "2026-01-02_03-04-05"

Start = Callable[..., "Run"]


class Run(Program):
    """The program above, which its test tells when to end."""

    def __init__(self, folder: Path, number: int, *words: str) -> None:
        self.files = folder / f"program_{number}"
        self.files.mkdir()
        script = self.files / "program.py"
        script.write_text(textwrap.dedent(PROGRAM), "utf-8")
        conf = Path(__file__).resolve().parents[3] / "conf"
        argv = [str(script), str(conf), str(self.files / "end"), *words]
        super().__init__(argv, folder, os.environ, self.files)

    def folder(self) -> Path:
        """Its folder, once it has one."""
        deadline = time.monotonic() + 120
        while True:
            lines = self.stdout.read_text("utf-8").splitlines() if self.stdout.exists() else []
            if said := [line for line in lines if line.startswith("in ")]:
                return Path(said[-1].removeprefix("in "))
            assert self.process.is_alive(), self.stderr.read_text("utf-8")
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def end(self) -> tuple[int, str]:
        """Let it end; its exit status and what it says on the standard error."""
        (self.files / "end").touch()
        done = self.finish()
        return done.returncode, done.stderr


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Run] = []

    def call(*words: str) -> Run:
        started.append(Run(tmp_path, len(started), *words))
        return started[-1]

    yield call
    for run in started:
        run.kill()


def seeds(folder: Path) -> list[str]:
    return (folder / "seeds").read_text().split()


def test_runs_and_sweeps_of_one_second_do_not_share_a_folder(start: Start, tmp_path: Path) -> None:
    runs = [start(f"seed={seed}") for seed in (1, 2, 3)]
    sweeps = [start("-m", f"seed={seed}") for seed in (4, 5)]
    folders = [tmp_path / run.folder() for run in runs]
    jobs = [sweep.folder() for sweep in sweeps]
    for program in (*runs, *sweeps):
        assert program.end() == (0, "")
    assert sorted(folder.name for folder in folders) == [STEM, f"{STEM}_2", f"{STEM}_3"]
    assert sorted(job.parent.name for job in jobs) == [STEM, f"{STEM}_2"]
    for seed, folder in enumerate([*folders, *jobs], 1):
        assert seeds(folder) == [str(seed)]
        assert (folder / ".hydra" / "overrides.yaml").read_text() == f"- seed={seed}\n"
        assert not (folder / NAME).exists()


def test_a_live_folder_is_refused_by_its_owner_and_a_dead_one_is_free(start: Start, tmp_path: Path) -> None:
    first = start("seed=1", "run.dir=here")
    first.folder()
    for word in ("run.dir=here", "resume=here"):
        status, errors = start("seed=2", word).end()
        assert status == 1
        assert f"run.dir=here\n     a live run writes into this folder: process {first.pid} on" in errors
        assert f"`kill {first.pid}`" in errors
        assert "Traceback" not in errors
    assert (tmp_path / "here" / ".hydra" / "overrides.yaml").read_text() == "- seed=1\n- run.dir=here\n"
    assert seeds(tmp_path / "here") == ["1"]
    first.kill()
    second = start("seed=2", "resume=here")
    assert second.folder() == Path("here")
    assert second.end() == (0, "")


def test_auto_leaves_a_live_run_alone_and_one_of_other_settings(start: Start) -> None:
    first = start("seed=1", "resume=auto")
    own = first.folder()
    second = start("seed=1", "resume=auto")
    assert second.folder() == own.with_name(f"{own.name}_2")
    first.kill()
    other = start("seed=2", "resume=auto")
    assert other.folder() == own.with_name(f"{own.name}_3")
    third = start("seed=1", "resume=auto", "optimizer.lr=0.1")
    assert third.folder() == own
    assert second.end() == third.end() == other.end() == (0, "")


def test_a_live_sweep_is_refused_and_a_live_job_is_left_alone(start: Start, tmp_path: Path) -> None:
    first = start("-m", "seed=1", "hydra.sweep.dir=sweep")
    first.folder()
    again = ("-m", "seed=1,2", "hydra.sweep.dir=sweep", "resume=auto")
    status, errors = start(*again).end()
    assert status == 1
    assert f"hydra.sweep.dir=sweep\n     a live run writes into this folder: process {first.pid} on" in errors
    first.kill()
    job = start("seed=1", "resume=sweep/0")
    job.folder()
    sweep = start(*again)
    assert sweep.folder().name == "1"
    status, errors = sweep.end()
    assert status == 1
    assert f"process {job.pid} on" in errors
    assert not list((tmp_path / "sweep").glob("*/failure.json"))
    assert seeds(tmp_path / "sweep" / "0") == ["1", "1"]
