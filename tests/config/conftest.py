"""One way to ask the front of the program for everything that is wrong with a command line."""

from collections.abc import Callable
from pathlib import Path

import pytest

from kanvision.config import ConfigGroups, EvalConfig, Problem, TrainConfig
from kanvision.config.cli.compose import composer
from kanvision.config.cli.override_checks import check_overrides

CONF = Path(__file__).resolve().parents[2] / "conf"
ROOTS = {"train": TrainConfig, "eval": EvalConfig}
Judge = Callable[..., list[Problem]]


@pytest.fixture(autouse=True)
def _no_run_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("KANVISION_RUN_ID", "KANVISION_RUN_DIR", "LOCAL_RANK", "RANK")
    more = ("TORCHELASTIC_RUN_ID", "SLURM_PROCID", "SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_JOB_NAME")
    for name in names + more:
        # Set first: the code under test exports some of them, and monkeypatch then takes them back.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def conf() -> Path:
    return CONF


@pytest.fixture(scope="session")
def choices() -> ConfigGroups:
    return ConfigGroups([CONF])


@pytest.fixture
def judge() -> Judge:
    """judge("model=kta", "seed=x", config_name="train", multirun=False, folders=[]) -> problems."""

    def problems(
        *overrides: str, config_name: str = "train", multirun: bool = False, folders: tuple[Path, ...] = ()
    ) -> list[Problem]:
        with composer(config_name, CONF, folders) as composing:
            known = ConfigGroups([CONF, *folders], config_name)
            return check_overrides(ROOTS[config_name], overrides, composing, known, multirun)[0]

    return problems
