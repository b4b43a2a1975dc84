"""A job that fails is recorded and leaves the others alone; what must stop the sweep stops it."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import open_dict

from kanvision.config import ConfigError, Problem, TrainConfig, compose, exit_with_message, parse_train
from kanvision.config.cli.compose import composer
from kanvision.sweep import finished_score, read_runs, sweep_job
from kanvision.sweep.runs import FAILURE, write_failure

from .folders import make_run, write_json

pytestmark = pytest.mark.usefixtures("own_folder")

CONF = Path(__file__).resolve().parents[2] / "conf"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a running job of a sweep."""
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    before = HydraConfig.instance().cfg
    with composer("train", CONF) as composing:
        cfg = composing.compose([f"hydra.sweep.dir={tmp_path}"], [])
    with open_dict(cfg):
        cfg.hydra.mode = RunMode.MULTIRUN
        cfg.hydra.runtime.output_dir = str(tmp_path / "0")
        cfg.hydra.overrides.task = ["basis=gram", "seed=3"]
    make_run(tmp_path / "0", "basis=gram", seed=3)
    HydraConfig.instance().set_config(cfg)
    yield tmp_path / "0"
    HydraConfig.instance().cfg = before


def recorded(folder: Path) -> str:
    return str(json.loads((folder / FAILURE).read_text())["reason"])


def test_a_failure_is_recorded_and_swallowed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with sweep_job():
        raise RuntimeError("not enough memory")
    assert recorded(folder) == "RuntimeError: not enough memory"
    shown = capsys.readouterr()
    assert "Job 0: basis=gram seed=3" in shown.out
    assert "Traceback" in shown.err
    assert [run.failure for run in read_runs(folder.parent)] == ["RuntimeError: not enough memory"]


def test_a_mistake_of_the_user_is_recorded_without_a_traceback_on_the_screen(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    problem = Problem(("model.name",), ("model.name=x",), "no such model", "legal: y")
    with sweep_job(), exit_with_message(ConfigError):
        raise ConfigError([problem])
    assert recorded(folder) == "model.name=x: no such model: legal: y"
    assert "Traceback" not in capsys.readouterr().err


def test_a_job_that_runs_again_forgets_its_failure(folder: Path) -> None:
    write_failure(folder, "earlier")
    with sweep_job():
        pass
    assert not (folder / FAILURE).exists()


@pytest.mark.parametrize("signal", [KeyboardInterrupt(), SystemExit(143)])
def test_who_stops_the_sweep_gets_the_table_so_far(
    folder: Path, signal: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(folder.with_name("1"), "basis=rbf", acc1=0.25)
    with pytest.raises(type(signal)), sweep_job():
        raise signal
    assert not (folder / FAILURE).exists()
    assert "0.2500" in capsys.readouterr().out
    assert (folder.parent / "sweep.md").exists()


def test_processes_that_work_together_do_not_go_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(RuntimeError), sweep_job():
        raise RuntimeError("one of them is gone")
    assert recorded(folder) == "RuntimeError: one of them is gone"


def test_outside_of_sweeps_nothing_is_swallowed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), sweep_job():
        raise RuntimeError
    with pytest.raises(SystemExit), sweep_job(), exit_with_message(ConfigError):
        raise ConfigError([])
    assert os.listdir(tmp_path) == []


def config(*words: str) -> TrainConfig:
    cfg = compose("train", list(words), CONF)
    cfg.run.dir = "somewhere"
    return parse_train(cfg)


def test_a_sweep_that_goes_on_leaves_finished_jobs_alone(folder: Path) -> None:
    going_on = config("resume=auto", "trainer.max_epochs=5")
    assert finished_score(going_on) is None
    write_json(folder / "metrics.json", {"best_val/acc1": 0.75, "epochs": 5})
    assert finished_score(going_on) == 0.75
    assert finished_score(config("trainer.max_epochs=5")) is None
    assert finished_score(config("resume=auto", "trainer.max_epochs=6")) is None
    write_failure(folder, "later")
    assert finished_score(going_on) is None
