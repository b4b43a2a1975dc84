"""Settings of a run that goes on: those that may change, and those that would make another training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml
from pydantic_core import PydanticUndefined, to_jsonable_python

from kanvision.config.cli.quoting import shell_word
from kanvision.config.errors import Problem
from kanvision.config.keys import format_yaml
from kanvision.config.renames import rename_settings
from kanvision.config.schema.base import Section
from kanvision.config.schema.root import TrainConfig

__all__ = [
    "RULES",
    "Change",
    "changed_settings",
    "epoch_end_advice",
    "resume_problems",
    "rule_for",
    "why_other_training",
]

Rule = Literal["fixed", "between epochs", "free"]

RULES: dict[str, Rule] = {
    "model": "fixed",
    "basis": "fixed",
    "data": "fixed",
    "data.root": "free",
    "data.download": "free",
    "data.num_workers": "free",
    "data.eval_batch_size": "free",
    "data.on_bad_sample": "free",
    "data.max_bad_samples": "free",
    "data.max_pixels": "free",
    "data.batch_size": "between epochs",
    "data.limit": "between epochs",
    "recipe": "free",
    "augment": "fixed",
    "mixup": "fixed",
    "optimizer": "free",
    "optimizer.name": "fixed",
    "scheduler": "free",
    "loss": "fixed",
    "metrics": "fixed",
    "metrics.per_class": "free",
    "metrics.hd95": "free",
    "metrics.objects": "free",
    "penalty": "fixed",
    "finetune": "fixed",
    "ema": "fixed",
    "ema.decay": "free",
    "ema.warmup": "free",
    "trainer": "free",
    "trainer.precision": "fixed",
    "trainer.sync_batchnorm": "fixed",
    "trainer.overfit_batches": "fixed",
    "trainer.limit_val_batches": "fixed",
    "trainer.limit_train_batches": "between epochs",
    "trainer.accumulate_grad_batches": "between epochs",
    "callbacks": "free",
    "logger": "free",
    "run": "free",
    "seed": "fixed",
    "resume": "free",
    "test": "free",
    "monitor": "fixed",
    "monitor_mode": "fixed",
}
"""What may change in a run that goes on, by key; a key without a rule has that of the section around it.

fixed: never, for it would be another training, or scores of another kind among which the best one is chosen;
between epochs: not from a checkpoint within an epoch; free: at any time, with effect from there on.
"""
FOLLOWERS = {
    "data.name": ("data.", "model.", "basis.", "recipe.", "augment.", "mixup.", "loss."),
    "model.family": ("model.", "basis.", "recipe.", "augment.", "mixup.", "loss."),
    "basis.name": ("basis.",),
    "model.size": ("model.name",),
}
"""Beginnings of the keys that change with a choice, for conf/ has other files for it."""
GROUPS = {"data.name": "data", "model.family": "model", "basis.name": "basis"}
"""Keys that are chosen as a group."""
FROM_DATA = ("data.num_classes", "data.mean", "data.std", "model.num_classes", "model.teacher_config")
"""Keys that a run fills in; null agrees with whatever was found."""
REGROUPING = ("optimizer.kan_lr", "optimizer.layer_decay", "optimizer.decay_all", "optimizer.decay_rationals")
"""Keys that sort parameters into other groups."""
WITHOUT_WEIGHTS = ("model", "basis", "ema")
"""Sections with which the weights of the run would not be of use."""
MISSING = object()


class Change(NamedTuple):
    """A setting that is not what the run had so far."""

    key: str
    before: Any
    """Value in the checkpoint."""
    asked: Any
    """Value that is asked for."""
    rule: Rule

    def __str__(self) -> str:
        """Both values in words."""
        return f"{self.key}: {format_yaml(self.before)} -> {format_yaml(self.asked)}"


def rule_for(key: str) -> Rule:
    """Return the rule of a key, or of the section around it."""
    while key not in RULES:
        key = key.rpartition(".")[0]
    return RULES[key]


def changed_settings(before: Mapping[str, Any], asked: TrainConfig) -> list[Change]:
    """Return all settings in which a run that goes on differs from what it was, but for where it writes.

    A key that is not in `before`, because an older version wrote it, had what is the schema's default now.
    Where another model, basis or data set is asked for, that alone is told.

    Args:
        before: The configuration in the checkpoint, as plain values; it may have old names.
        asked: The configuration that is asked for.
    """
    before, _ = rename_settings(before)
    folder = str((before.get("run") or {}).get("dir"))
    changes = [
        Change(key, old, value, _rule(key, old, value, asked))
        for key, old, value in _pairs(asked, before)
        if old != value
        and not (value is None and key in FROM_DATA)
        and not key.startswith(("run.", "resume"))
        and _relative(old, folder) != _relative(value, asked.run.dir)
    ]
    keys = [change.key for change in changes]
    followers = tuple(start for key in FOLLOWERS if key in keys for start in FOLLOWERS[key])
    first = next((key for key in FOLLOWERS if key in keys), "")
    return [c for c in changes if c.key in (first, "model.family") or not c.key.startswith(followers)]


def why_other_training(folder: Path, asked: TrainConfig) -> str:
    """Say by which setting a run's `config.yaml` is of another training; empty if it is of the same one."""
    try:
        before = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        before = None
    if not isinstance(before, Mapping):
        return "has no config.yaml that can be read"
    fixed = [change for change in changed_settings(before, asked) if change.rule == "fixed"]
    return f"has {fixed[0].key}={format_yaml(fixed[0].before)}" if fixed else ""


def resume_problems(changes: Sequence[Change], checkpoint: Path, *, within_epoch: bool) -> Iterator[Problem]:
    """Everything that keeps a run from going on with its changed settings.

    Args:
        changes: What has changed.
        checkpoint: What the run is to go on from.
        within_epoch: Whether that is from within an epoch.
    """
    for change in changes:
        key, group = GROUPS.get(change.key, change.key), change.key.partition(".")[0]
        given, had = (f"{key}={format_yaml(value)}" for value in (change.asked, change.before))
        if change.rule == "fixed":
            why = f"the run in {checkpoint} has {had}; another value makes it another training"
            fix = f"to go on with it: {had}; for a new run: another run.dir and no resume"
            if group not in WITHOUT_WEIGHTS:
                fix += f", with its weights: {shell_word('finetune.init_from', str(checkpoint))}"
            yield Problem((change.key,), (given,), why, fix)
        elif change.rule == "between epochs" and within_epoch:
            why = f"{checkpoint} is from within an epoch with {had}: images would come twice or not at all"
            fix = f"to go on from there: {had}; or {epoch_end_advice(checkpoint)}"
            yield Problem((change.key,), (given,), why, fix)


def epoch_end_advice(checkpoint: Path) -> str:
    """Say how to go on without the part of an epoch that a checkpoint is from within."""
    last = checkpoint.with_name("last.ckpt")
    if last.is_file():
        return f"go on from the end of an epoch: resume={last}"
    return "start anew in another run.dir, for no epoch is over yet"


def _pairs(section: Section, before: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each key with the value that it had and the one that is asked for."""
    for name, value in section.model_dump(mode="json").items():
        key = f"{prefix}{name}"
        old = before.get(name, _default(section, name))
        if old is MISSING:
            continue
        if isinstance(getattr(section, name), Section) and isinstance(old, Mapping):
            yield from _pairs(getattr(section, name), old, f"{key}.")
        elif key in ("callbacks", "logger"):
            yield from _entries(key, old, value)
        else:
            yield key, old, value


def _entries(key: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Arguments of entries that were there before; as a whole, those that have come or gone."""
    for name in dict.fromkeys([*before, *now]):
        old, new = before.get(name), now.get(name)
        if old is None or new is None:
            yield f"{key}.{name}", old, new
        else:
            for argument in dict.fromkeys([*old, *new]):
                yield f"{key}.{name}.{argument}", old.get(argument), new.get(argument)


def _default(section: Section, name: str) -> Any:
    """The schema's default as a plain value; MISSING where there is none."""
    field = type(section).model_fields.get(name)  # a key of a basis is in no schema
    value = PydanticUndefined if field is None else field.get_default(call_default_factory=True)
    return MISSING if value is PydanticUndefined else to_jsonable_python(value)


def _rule(key: str, old: Any, value: Any, asked: TrainConfig) -> Rule:
    """The rule of a change; parameters that are spread over processes stay in their groups."""
    regroups = key in REGROUPING or (key == "optimizer.weight_decay" and 0 in (old, value))
    return "fixed" if regroups and asked.trainer.strategy == "fsdp" else rule_for(key)


def _relative(value: Any, folder: str) -> Any:
    """A value, and a path below a folder without that folder."""
    return value.removeprefix(folder) if isinstance(value, str) else value
