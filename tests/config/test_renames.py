"""Old names of keys, values and classes: typed, or in a stored configuration."""

import re
from pathlib import Path

import pytest
import pytorch_lightning as pl

import kanvision
from kanvision.app.build import OldStateNames
from kanvision.callbacks import BestCheckpoint
from kanvision.config import TrainConfig
from kanvision.config.renames import (
    CLASSES,
    KEYS,
    METRICS,
    NEGATED,
    VALUES,
    rename_file,
    rename_override,
    rename_overrides,
    rename_settings,
)
from kanvision.config.schema.keys import format_yaml, keys_by_name
from kanvision.config.schema.root import EvalConfig
from kanvision.config.schema.standalone import CheckConfig

ROOT = Path(__file__).resolve().parents[2]
LEGAL = {name for root in (TrainConfig, EvalConfig, CheckConfig) for name in keys_by_name(root)}


@pytest.mark.parametrize(
    ("typed", "today"),
    [
        ("data.faults=skip", ["data.on_bad_sample=skip"]),
        ("data.faults=raise,skip", ["data.on_bad_sample=raise,skip"]),
        ("++analyse.hessian.top=3", ["++analyze.hessian.num_eigenvalues=3"]),
        ("mode=analyse", ["mode=analyze"]),
        ("~callbacks.finite_guard", ["~callbacks.nonfinite_guard"]),
        (
            "callbacks.grid._target_=kanvision.callbacks.GridCare",
            ["callbacks.grid._target_=kanvision.callbacks.GridUpdate"],
        ),
        ("model.layer_drop_place=basis", ["model.layer_drop_position=basis"]),
        ("recipe=karat_cifar10_deit_unlisted", ["recipe=karat_cifar10_with_deit_extras"]),
        ("recipe=kat,karat_imagenet_deit_unlisted", ["recipe=kat,karat_imagenet_with_deit_extras"]),
        ("monitor=val/objective", ["monitor=val/training_loss"]),
        ("callbacks.early.monitor=val/objective", ["callbacks.early.monitor=val/training_loss"]),
        ("recipe=convkan_cifar100_regularisation", ["recipe=convkan_cifar100_regularization"]),
        ("model.layer=kagn,kacn", ["model.preset=kagn,kacn"]),
        ("model.layer=conv", ["model.preset=null", "model.plain=true"]),
        ("model.pointwise_layer=conv", ["model.pointwise_preset=null", "model.plain=pointwise"]),
        ("+model.kwargs.layer=conv", ["+model.kwargs.preset=null", "+model.kwargs.plain=true"]),
        ("model.kan=false", ["model.plain=true"]),
        ("model.kan=[True,False,true],false", ["model.plain=[false,true,false],true"]),
        ("model.kan=yes", ["model.plain=false"]),
        ("model.kan=[0,1,Off]", ["model.plain=[true,false,true]"]),
    ],
)
def test_an_old_name_that_is_typed_works_and_is_answered(typed: str, today: list[str]) -> None:
    words, note = rename_override(typed)
    assert words == today
    assert note == f"{typed} -> {' '.join(today)}"


@pytest.mark.parametrize(
    "word", ["data.on_bad_sample=skip", "model=kat", "data.root=a=b", "seed=1,2", "--help"]
)
def test_a_name_of_today_stays_as_it_is(word: str) -> None:
    assert rename_override(word) == ([word], None)


def test_old_names_in_a_file_become_those_of_today() -> None:
    stored = {
        "data": {"on_bad_sample": "raise", "faults": "skip", "max_faults": 3},
        "callbacks": {"grid": {"_target_": "kanvision.callbacks.GridCare", "refine_at": {10: 10}}},
        "recipe": {"name": "convkan_cifar100_regularisation"},
    }
    renamed, notes = rename_settings(stored)
    assert renamed == {
        "data": {"on_bad_sample": "skip", "max_bad_samples": 3},
        "callbacks": {"grid": {"_target_": "kanvision.callbacks.GridUpdate", "refine_at": {10: 10}}},
        "recipe": {"name": "convkan_cifar100_regularization"},
    }
    assert len(notes) == 4
    assert "data.faults -> data.on_bad_sample" in notes
    assert rename_settings(renamed) == (renamed, [])


def test_old_names_of_plain_networks_in_a_file_become_those_of_today() -> None:
    stored = {"model": {"plain": False, "preset": None, "kan": [True, False], "layer": "kagn"}}
    renamed, notes = rename_settings(stored)
    assert renamed == {"model": {"plain": [False, True], "preset": "kagn"}}
    assert "model.kan=[true, false] -> model.plain=[false, true]" in notes
    assert rename_settings({"model": {"plain": False, "layer": "conv", "preset": None}}) == (
        {"model": {"plain": True, "preset": None}},
        ["model.layer=conv -> model.preset=null model.plain=true"],
    )


def test_a_section_under_its_old_name_changes_keys_of_the_new_one() -> None:
    # would catch a callback without a class: the old section took the place of the whole new one
    guard = {"_target_": "kanvision.callbacks.NonFiniteGuard", "mode": "raise", "max_skipped": 10}
    renamed, _ = rename_settings({"callbacks": {"nonfinite_guard": guard, "finite_guard": {"mode": "skip"}}})
    assert renamed == {"callbacks": {"nonfinite_guard": {**guard, "mode": "skip"}}}
    stored = {"analyze": {"hessian": {"num_runs": 2, "num_steps": 3}}, "analyse": {"hessian": {"runs": 5}}}
    assert rename_settings(stored)[0] == {"analyze": {"hessian": {"num_runs": 5, "num_steps": 3}}}


@pytest.mark.parametrize(
    ("stored", "plain"),
    [
        ({"preset": "conv", "plain": False}, True),
        ({"plain": False, "pointwise_preset": "conv"}, "pointwise"),
        ({"pointwise_preset": "conv", "preset": "conv", "plain": False}, True),
        ({"layer": "conv", "pointwise_layer": "conv"}, True),
        ({"kan": "no"}, True),
        ({"kan": [1, 0]}, [False, True]),
    ],
)
def test_a_plain_network_stays_plain_in_any_order_and_spelling(stored: dict, plain: object) -> None:
    # would catch a baseline that trains with KAN layers: a default after the old value won
    assert rename_settings({"model": stored})[0]["model"]["plain"] == plain


def test_two_old_presets_on_one_command_line_are_both_plain() -> None:
    renamed, _ = rename_overrides(["model.layer=conv", "model.pointwise_layer=conv", "seed=1"])
    assert [*renamed.values()] == [["model.preset=null", "model.plain=true"], ["model.pointwise_preset=null"]]


def test_each_new_name_is_legal_and_no_old_one_is() -> None:
    for old, name in KEYS.items():
        section = old.rpartition(".")[0]
        new = f"{section}.{name}" if section else name
        assert old not in LEGAL
        if section not in ("callbacks", "basis", "model.kwargs"):  # their keys are those of files and classes
            assert new in LEGAL, new


def test_states_of_old_checkpoints_reach_the_callbacks_of_today() -> None:
    """The best score and counters would be lost on resume: Lightning finds states by class and metric."""
    best = BestCheckpoint("run", "val/training_loss", "min")
    old = {
        best.state_key.replace("training_loss", "objective"): {"best_model_score": 0.5},
        "DataFaults": {"count": 1},
        "EpochState": {"ranks": [{"callback_metrics": {"val/objective": 2}, "buffers": {("task", "x"): 3}}]},
    }
    checkpoint = {"callbacks": old}
    OldStateNames().on_load_checkpoint(
        pl.Trainer(logger=False, callbacks=[]), pl.LightningModule(), checkpoint
    )
    assert checkpoint["callbacks"] == {
        best.state_key: {"best_model_score": 0.5},
        "BadSampleCounter": {"count": 1},
        "EpochState": {
            "ranks": [{"callback_metrics": {"val/training_loss": 2}, "buffers": {("task", "x"): 3}}]
        },
    }


def test_each_class_of_today_is_there() -> None:
    import kanvision.callbacks

    for path in CLASSES.values():
        assert hasattr(kanvision.callbacks, path.rpartition(".")[2])


def renamed() -> dict[str, str]:
    """Return every old name, as a user types it, with the new one."""
    names = {**METRICS, **CLASSES}
    for old, name in KEYS.items():
        new = f"{old.rpartition('.')[0]}.{name}".lstrip(".")
        names |= {f"{old}=true": f"{new}=false"} if old in NEGATED else {old: new}
    for key, values in VALUES.items():
        section = key.rpartition(".")[0]
        for old, settings in values.items():
            words = (f"{section}.{name}={format_yaml(value)}".lstrip(".") for name, value in settings.items())
            names[f"{key}={old}"] = " ".join(words)
    return {old: new for old, new in names.items() if not re.match(r"(recipe\.name|(\*\.)?monitor)=", old)}


def test_the_changelog_lists_every_old_name() -> None:
    """A new entry of `kanvision.config.renames` without a row would be a rename that no user reads of."""
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    table = re.search(r"### Renamed keys\n(.*?)\n###", text, re.DOTALL)
    assert table is not None
    assert dict(re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|$", table[1], re.MULTILINE)) == renamed()
    assert f"\n## {kanvision.__version__}\n" in text


def test_old_choices_and_sweeps_in_a_file_are_renamed() -> None:
    # would catch old names that Hydra reads from a file before the configuration exists
    content = {
        "defaults": ["_self_", {"override /recipe": "convkan_cifar100_regularisation"}, {"/data": "digits"}],
        "hydra": {"sweeper": {"params": {"model.layer": "kagn,conv", "seed": "1,2"}}, "job": {"name": "a"}},
        "seed": 3,
    }
    renamed, notes = rename_file(content)
    assert renamed == {
        "defaults": ["_self_", {"override /recipe": "convkan_cifar100_regularization"}, {"/data": "digits"}],
        "hydra": {"sweeper": {"params": {"model.preset": "kagn,conv", "seed": "1,2"}}, "job": {"name": "a"}},
        "seed": 3,
    }
    assert notes == [
        "override /recipe: convkan_cifar100_regularisation -> convkan_cifar100_regularization",
        "model.layer=kagn,conv -> model.preset=kagn,conv",
    ]
    assert rename_file(renamed) == (renamed, [])
