"""Settings of a run that goes on: which may change, and what is said of the others."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from kanvision.config import Problem, TrainConfig, compose, parse_train, to_primitive
from kanvision.config.checks.resume import (
    RESUME_RULES,
    changed_settings,
    find_rule,
    resume_problems,
    why_other_training,
)
from kanvision.config.schema.keys import all_keys
from tests.config.conftest import CONF

RUNS_DOC = CONF.parent / "docs" / "runs.md"


def configured(*words: str, folder: str = "there") -> TrainConfig:
    return parse_train(compose("train", [f"run.dir={folder}", *words], CONF))


@pytest.fixture(scope="module")
def before() -> dict[str, Any]:
    return to_primitive(configured())


def problems(before: dict[str, Any], *words: str, within_epoch: bool = False) -> dict[str, Problem]:
    changes = changed_settings(before, configured(*words))
    found = list(resume_problems(changes, Path("run/step.ckpt"), within_epoch=within_epoch))
    return {problem.keys[0]: problem for problem in found}


@pytest.mark.parametrize(
    "word",
    [
        "seed=2",
        "data.split_seed=1",
        "data.val_fraction=0.2",
        "data.limit_test=9",
        "model.size=8",
        "model.width_scale=0.25",
        "basis.degree=2",
        "loss.label_smoothing=0.1",
        "penalty.weight_l1=0.1",
        "augment.hflip=0.5",
        "mixup.mixup_alpha=0.2",
        "trainer.precision=64-true",
        "optimizer.name=sgd",
        "finetune.init_from=.",
        "monitor=val/acc5",
        "+ema={decay: 0.9}",
    ],
)
def test_another_training_is_refused_by_key_with_both_values(before: dict[str, Any], word: str) -> None:
    key, _, value = word.removeprefix("+").partition("=")
    problem = problems(before, word)[key]
    assert problem.given[0].startswith(f"{key}={value[:4]}")
    had = re.fullmatch(rf"the run in run/step.ckpt has ({re.escape(key)}=.+); another value .*", problem.why)
    assert had is not None
    assert problem.fix.startswith(f"to resume it: {had[1]}; for a new run: another run.dir and no resume")


def test_a_change_of_data_or_model_is_one_problem_not_one_for_each_of_its_keys(before) -> None:
    for word, key in (
        ("data=cifar10", "data.name"),
        ("model=kat", "model.family"),
        ("basis=rbf", "basis.name"),
    ):
        found = problems(before, word, "trainer.precision=32-true")
        assert list(found) == [key]
        assert found[key].given == (word,)
    assert list(problems(before, "model=kat", "data=cifar10", "seed=3", "trainer.precision=32-true")) == [
        "model.family",
        "data.name",
        "seed",
    ]


def test_all_problems_come_at_once(before) -> None:
    words = ("seed=2", "optimizer.name=sgd", "data.batch_size=9", "trainer.accumulate_grad_batches=2")
    keys = ["optimizer.name", "seed"]
    assert sorted(problems(before, *words)) == keys
    within = sorted(problems(before, *words, within_epoch=True))
    assert within == ["data.batch_size", *keys[:1], "seed", "trainer.accumulate_grad_batches"]


def test_a_batch_is_as_it_was_until_the_epoch_is_over() -> None:
    before = to_primitive(configured("data.batch_size=64"))
    assert problems(before, "data.batch_size=9", "data.limit=90") == {}
    problem = problems(before, "data.batch_size=9", within_epoch=True)["data.batch_size"]
    assert problem.given == ("data.batch_size=9",)
    assert "within an epoch with data.batch_size=64" in problem.why
    assert (
        "data.batch_size=64; or start a new run in another run.dir, because no epoch is complete"
        in problem.fix
    )


def test_what_may_change_is_listed(before) -> None:
    words = ["optimizer.lr=0.1", "scheduler.name=linear", "trainer.max_epochs=99", "data.num_workers=3"]
    words += ["data.root=elsewhere", "logger=none", "callbacks.step.every_n_minutes=1", "run.name=other"]
    words += ["test=false", "resume=auto"]
    changes = changed_settings(before, configured(*words, folder="elsewhere"))
    assert {change.rule for change in changes} == {"free"}
    texts = [str(change) for change in changes]
    assert [text.partition(":")[0] for text in texts if not text.startswith("logger.")] == [
        "data.root",
        "data.num_workers",
        "optimizer.lr",
        "scheduler.name",
        "trainer.max_epochs",
        "callbacks.step.every_n_minutes",
        "test",
    ]
    assert "optimizer.lr: 0.004 -> 0.1" in texts
    assert any(re.fullmatch(r"logger\.\w+: \{.*\} -> null", text) for text in texts)


def test_the_same_settings_differ_in_nothing(before) -> None:
    assert changed_settings(before, configured(folder="moved/elsewhere")) == []
    found = {"num_classes": 10, "mean": [0.3], "std": [0.2]}
    filled = {**before, "data": before["data"] | found, "model": before["model"] | {"num_classes": 10}}
    unknown = {"mean": None, "std": None, "num_classes": None}
    asked = configured()
    asked = asked.model_copy(update={"data": asked.data.model_copy(update=unknown)})
    assert changed_settings(filled, asked) == []


def test_checkpoints_of_other_versions_go_on(before) -> None:
    """What they do not know had today's default; what is not known any more says nothing."""
    older = copy.deepcopy(before) | {"ancient": 1}
    older["optimizer"]["ancient"] = {"a": 1}
    del older["metrics"], older["ema"], older["data"]["on_bad_sample"], older["basis"]["degree"]
    assert changed_settings(older, configured()) == []
    changes = changed_settings(older, configured("metrics.threshold=0.4", "+ema={decay: 0.9}"))
    assert [str(change) for change in changes] == [
        "metrics.threshold: 0.5 -> 0.4",
        "ema: null -> {decay: 0.9, warmup: false}",
    ]
    older["data"]["faults"] = "skip"  # its name then
    older["callbacks"]["finite_guard"] = older["callbacks"].pop("nonfinite_guard")
    assert changed_settings(older, configured("data.on_bad_sample=skip")) == []


@pytest.mark.parametrize(
    ("word", "is_refused"),
    [
        ("optimizer.lr=0.1", False),
        ("optimizer.weight_decay=0.1", False),
        ("optimizer.weight_decay=0", True),
        ("optimizer.kan_lr=0.1", True),
        ("optimizer.layer_decay=0.5", True),
    ],
)
def test_sharded_parameters_stay_in_their_groups(before, word: str, is_refused: bool) -> None:
    key = word.partition("=")[0]
    assert (key in problems(before, word, "trainer.strategy=fsdp", "trainer.accelerator=cpu")) is is_refused


def test_every_key_has_a_rule_and_the_docs_tell_it() -> None:
    """The default of a key of `data`, `model`, ... is the strict one; those of `trainer` are free."""
    assert {find_rule(key.name) for key in all_keys(TrainConfig)} == {"fixed", "between epochs", "free"}
    names = {key.name for key in all_keys(TrainConfig)}
    assert set(RESUME_RULES) <= names, "no rule for a key that is gone"
    rows = re.findall(r"^\| (any time|between epochs|never) \| (.*) \|", RUNS_DOC.read_text("utf-8"), re.M)
    words = {"any time": "free", "between epochs": "between epochs", "never": "fixed"}
    told = {key: words[when] for when, keys in rows for key in re.findall(r"`([\w.]+)`", keys)}
    assert told == RESUME_RULES


def test_the_folder_of_a_run_tells_its_training(before: dict[str, Any], tmp_path: Path) -> None:
    assert why_other_training(tmp_path, configured()) == "has no config.yaml that can be read"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(before), "utf-8")
    assert why_other_training(tmp_path, configured("optimizer.lr=1", "data.batch_size=9")) == ""
    assert why_other_training(tmp_path, configured("seed=2")) == "has seed=42"
    (tmp_path / "config.yaml").write_text("a: [b", "utf-8")
    assert why_other_training(tmp_path, configured()) == "has no config.yaml that can be read"
