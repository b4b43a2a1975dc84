"""Hydra's own section: what it would build or run before a run starts."""

import sys
from pathlib import Path

import pytest
import yaml

from kanvision.config import ConfigGroups
from kanvision.config.targets import hydra_problems

from .conftest import CONF, Judge

ONLY_OURS = "a configuration may only call what belongs to a known package"


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("job: {env_set: {PATH: /elsewhere/evil}}", "does not change the environment of the program"),
        ("job: {env_copy: [PYTHONPATH]}", "does not change the environment of the program"),
        ("callbacks: {mine: {_target_: os.system}}", ONLY_OURS),
        ("callbacks: {mine: {_target_: hydra.experimental.callbacks.pickle.loads}}", ONLY_OURS),
        ("callbacks: {mine: {_target_: hydra_plugins.any.launcher.subprocess.Popen}}", ONLY_OURS),
        ("callbacks: {mine: '${model.kwargs.mine}'}", "only resolved when it is used"),
        ("launcher: {_target_: subprocess.Popen}", ONLY_OURS),
        ("launcher: {setup: [touch /elsewhere/evil]}", "commands do not come from files"),
        ("sweeper: {_target_: os.system}", ONLY_OURS),
        ("sweeper: {custom_search_space: os.system}", "names code that would be run"),
        ("job_logging: {handlers: {mine: {class: subprocess.Popen, args: [ls]}}}", ONLY_OURS),
        ("job_logging: {handlers: {mine: {(): os.system}}}", ONLY_OURS),
        ("searchpath: [file:///elsewhere]", "from conf/ and from one more folder"),
        ("hydra_logging: {formatters: {mine: {class: os.system}}}", ONLY_OURS),
    ],
)
def test_a_section_that_runs_other_code_is_refused(section: str, words: str) -> None:
    (problem,) = hydra_problems(yaml.safe_load(section), [], ["file:///elsewhere/mine"])
    assert words in problem.why


def test_an_experiment_and_a_command_line_are_judged_by_it(tmp_path: Path, judge: Judge) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\nhydra:\n  job: {env_set: {PATH: /elsewhere/evil}}\n"
    (tmp_path / "experiment" / "foreign.yaml").write_text(text)
    folder = "hydra.searchpath=[pkg://antigravity]"
    found = judge("experiment=foreign", folders=(tmp_path,))
    assert ["does not change the environment" in problem.why for problem in found] == [True]
    (problem,) = judge("ckpt=.", folder, config_name="eval")
    assert problem.given == (folder,)
    assert "--config-dir=<folder>" in problem.fix
    assert "antigravity" not in sys.modules


def test_what_is_ours_is_legal() -> None:
    ours = {
        "searchpath": ["file:///elsewhere/mine"],
        "callbacks": {"a": {"_target_": "kanvision.sweep.SweepReport"}},
    }
    log = {"class": "logging.FileHandler", "filename": "${hydra.runtime.output_dir}/${hydra.job.name}.log"}
    ours["job_logging"] = {"handlers": {"file": log}}
    ours["sweeper"] = {"sampler": {"_target_": "optuna.samplers.TPESampler", "seed": "${seed}"}}
    assert list(hydra_problems(ours, [], ["file:///elsewhere/mine"])) == []
    typed = {"launcher": {"setup": ["module load cuda"]}}
    assert list(hydra_problems(typed, ["hydra.launcher.setup"], [])) == []


def test_an_experiment_of_ours_that_sets_something_of_hydra_is_legal(judge: Judge) -> None:
    name = "karat/cifar10_tiny_simplex"
    experiment = ConfigGroups([CONF]).experiment(name)
    assert experiment is not None
    assert "hydra" in experiment.config()
    assert judge(f"experiment={name}", multirun=True) == []


@pytest.mark.parametrize("target", ["samplers.os.system", "samplers.TPESamplerX", "create_study"])
def test_a_search_calls_nothing_but_the_samplers_of_its_sweeper(judge: Judge, target: str) -> None:
    setting = f"hydra.sweeper.sampler._target_=optuna.{target}"
    (problem,) = judge("hparams_search=optuna", setting, multirun=True)
    assert (problem.given, problem.why) == ((setting,), ONLY_OURS)
