"""Variables of the environment in a configuration: paths are filled in, secrets are not recorded."""

from pathlib import Path

import pytest
import yaml

from kanvision.app.run_record import write_config
from kanvision.config import ConfigError, compose, parse_train, to_primitive

from .conftest import CONF, Judge

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def _variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KANVISION_TEST_SECRET", SECRET)
    monkeypatch.setenv("KANVISION_TEST_NUMBER", "7")


@pytest.mark.parametrize(
    "key",
    [
        "recipe.source",
        "model.name",
        "basis.name",
        "+model.kwargs.token",
        "optimizer.name",
        "augment.auto_augment",
    ],
)
def test_a_variable_is_refused_where_it_would_be_recorded(key: str, judge: Judge) -> None:
    (problem, *_) = judge(f"{key}=${{oc.env:KANVISION_TEST_SECRET}}")
    assert "written to config.yaml and every checkpoint" in problem.why
    assert SECRET not in str(problem)


def test_paths_and_numbers_are_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KANVISION_TEST_FOLDER", str(tmp_path))
    words = ["data.root=${oc.env:KANVISION_TEST_FOLDER}/a", "run.dir=${oc.env:KANVISION_TEST_FOLDER}/run"]
    config = parse_train(compose("train", [*words, "seed=${oc.env:KANVISION_TEST_NUMBER}"], CONF))
    assert (config.data.root, config.run.dir, config.seed) == (f"{tmp_path}/a", f"{tmp_path}/run", 7)


def test_a_wrong_value_of_a_variable_is_not_shown(tmp_path: Path, judge: Judge) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\nseed: ${oc.env:KANVISION_TEST_SECRET}\n"
    (tmp_path / "experiment" / "leaky.yaml").write_text(text)
    (problem,) = judge("experiment=leaky", folders=(tmp_path,))
    assert "expected whole number" in problem.why
    assert "${oc.env:KANVISION_TEST_SECRET}" in "".join(problem.given)
    assert SECRET not in "\n".join(problem.lines())


def test_loggers_keep_the_reference_in_all_that_is_recorded(tmp_path: Path) -> None:
    logger = (
        "+logger.mine={_target_: pytorch_lightning.loggers.CSVLogger, save_dir: x, "
        'prefix: "key ${oc.env:KANVISION_TEST_SECRET}"}'
    )
    config = to_primitive(parse_train(compose("train", [logger, f"run.dir={tmp_path}"], CONF)))
    assert config["logger"]["mine"]["prefix"] == "key ${oc.env:KANVISION_TEST_SECRET}"
    write_config(tmp_path, config)
    assert SECRET not in (tmp_path / "config.yaml").read_text()
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == config


def test_a_reference_beside_another_one_is_refused(judge: Judge) -> None:
    logger = "{_target_: pytorch_lightning.loggers.CSVLogger, a: "
    mixed = "+logger.mine=" + logger + '"${run.root}${oc.env:KANVISION_TEST_SECRET}"}'
    (problem,) = judge(mixed)
    assert "may hold one variable" in problem.why


def test_compose_leaves_secrets_to_the_object(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="in plain text") as refused:
        parse_train(compose("train", ["run.dir=x", "recipe.source=${oc.env:KANVISION_TEST_SECRET}"], CONF))
    assert SECRET not in str(refused.value)
