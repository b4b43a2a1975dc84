"""Settings that a resumed run may change, and settings that would make it another training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml
from pydantic_core import PydanticUndefined, to_jsonable_python

from kanvision.config.cli.quoting import shell_word
from kanvision.config.errors import Problem
from kanvision.config.nested import MISSING
from kanvision.config.renames import rename_settings
from kanvision.config.schema.base import Section
from kanvision.config.schema.keys import format_yaml
from kanvision.config.schema.root import TrainConfig

__all__ = [
    "RESUME_RULES",
    "Change",
    "changed_settings",
    "epoch_end_advice",
    "find_rule",
    "resume_problems",
    "why_other_training",
]

ResumeRule = Literal["fixed", "between epochs", "free"]


def _rules(rule: ResumeRule, keys: str) -> dict[str, ResumeRule]:
    return dict.fromkeys(keys.split(), rule)


RESUME_RULES: dict[str, ResumeRule] = {
    **_rules(
        "fixed",
        "model basis data augment mixup optimizer.name loss metrics penalty finetune ema trainer.precision "
        "trainer.sync_batchnorm trainer.overfit_batches trainer.limit_val_batches seed monitor monitor_mode",
    ),
    **_rules(
        "between epochs",
        "data.batch_size data.limit data.sampling trainer.limit_train_batches "
        "trainer.accumulate_grad_batches",
    ),
    **_rules(
        "free",
        "data.root data.download data.num_workers data.eval_batch_size data.on_bad_sample "
        "data.max_bad_samples data.max_pixels recipe optimizer scheduler metrics.per_class metrics.hd95 "
        "metrics.objects metrics.extra ema.decay ema.warmup model.grad_checkpointing trainer plugins "
        "callbacks logger run resume test",
    ),
}
"""ResumeRule of each key for a resumed run; a key without a rule has the rule of its section.

fixed: may not change, because the training or its scores would be different ones; between epochs: may not
change when the checkpoint is from within an epoch; free: may change, with effect from then on.
"""
FOLLOWERS = {
    "data.name": ("data.", "model.", "basis.", "recipe.", "augment.", "mixup.", "loss."),
    "model.family": ("model.", "basis.", "recipe.", "augment.", "mixup.", "loss."),
    "basis.name": ("basis.",),
    "model.size": ("model.name",),
}
"""Choice -> beginnings of the keys that other files of conf/ set for it."""
GROUPS = {"data.name": "data", "model.family": "model", "basis.name": "basis"}
"""Key -> group that sets it."""
FILLED_IN = (
    *("data.num_classes", "data.mean", "data.std"),
    *("model.num_classes", "model.teacher_config", "model.matched_width"),
)
"""Keys that a run fills in; null agrees with every value."""
REGROUPING = ("optimizer.kan_lr", "optimizer.layer_decay", "optimizer.decay_all", "optimizer.decay_rationals")
"""Keys that change the parameter groups of the optimizer."""
WITHOUT_WEIGHTS = ("model", "basis", "ema")
"""Sections with whose changes the weights of the run cannot be loaded."""


class Change(NamedTuple):
    """Setting that differs from that of the checkpoint."""

    key: str
    before: Any
    """Value in the checkpoint."""
    requested: Any
    """Value in the new configuration."""
    rule: ResumeRule

    def __str__(self) -> str:
        """Return key and both values as text."""
        return f"{self.key}: {format_yaml(self.before)} -> {format_yaml(self.requested)}"


def find_rule(key: str) -> ResumeRule:
    """Return the rule of a key, or of its section."""
    while key not in RESUME_RULES:
        key = key.rpartition(".")[0]
    return RESUME_RULES[key]


def changed_settings(before: Mapping[str, Any], requested: TrainConfig) -> list[Change]:
    """Return the settings of a resumed run that differ from those of its checkpoint, except its folders.

    A key that is not in `before`, which an older version wrote, has today's default. Of another model, basis
    or data set, only the choice itself is returned.
    """
    before, _ = rename_settings(before)
    folder = str((before.get("run") or {}).get("dir"))
    changes = [
        Change(key, old, value, _rule(key, old, value, requested))
        for key, old, value in _pairs(requested, before)
        if old != value
        and not (value is None and key in FILLED_IN)
        and not key.startswith(("run.", "resume"))
        and _relative(old, folder) != _relative(value, requested.run.dir)
    ]
    keys = [change.key for change in changes]
    followers = tuple(start for key in FOLLOWERS if key in keys for start in FOLLOWERS[key])
    first = next((key for key in FOLLOWERS if key in keys), "")
    return [c for c in changes if c.key in (first, "model.family") or not c.key.startswith(followers)]


def why_other_training(folder: Path, requested: TrainConfig) -> str:
    """Return the first setting that makes the run of a folder another training; empty if there is none."""
    try:
        before = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        before = None
    if not isinstance(before, Mapping):
        return "has no config.yaml that can be read"
    fixed = [change for change in changed_settings(before, requested) if change.rule == "fixed"]
    return f"has {fixed[0].key}={format_yaml(fixed[0].before)}" if fixed else ""


def resume_problems(changes: Sequence[Change], checkpoint: Path, *, within_epoch: bool) -> Iterator[Problem]:
    """Yield the problems of changed settings that prevent a resume."""
    for change in changes:
        key, group = GROUPS.get(change.key, change.key), change.key.partition(".")[0]
        given, had = (f"{key}={format_yaml(value)}" for value in (change.requested, change.before))
        if change.rule == "fixed":
            why = f"the run in {checkpoint} has {had}; another value makes it another training"
            fix = f"to resume it: {had}; for a new run: another run.dir and no resume"
            if group not in WITHOUT_WEIGHTS:
                fix += f", with its weights: {shell_word('finetune.init_from', str(checkpoint))}"
            yield Problem((change.key,), (given,), why, fix)
        elif change.rule == "between epochs" and within_epoch:
            why = f"{checkpoint} is from within an epoch with {had}: images would be repeated or skipped"
            fix = f"to resume from there: {had}; or {epoch_end_advice(checkpoint)}"
            yield Problem((change.key,), (given,), why, fix)


def epoch_end_advice(checkpoint: Path) -> str:
    """Return advice to resume from the end of an epoch instead of a checkpoint within one."""
    last = checkpoint.with_name("last.ckpt")
    if last.is_file():
        return f"resume from the end of an epoch: resume={last}"
    return "start a new run in another run.dir, because no epoch is complete yet"


def _pairs(section: Section, before: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield each key with its value before and its new value."""
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
    """Yield the arguments of entries that both have; entries that only one has are yielded as a whole."""
    for name in dict.fromkeys([*before, *now]):
        old, new = before.get(name), now.get(name)
        if old is None or new is None:
            yield f"{key}.{name}", old, new
        else:
            for argument in dict.fromkeys([*old, *new]):
                yield f"{key}.{name}.{argument}", old.get(argument), new.get(argument)


def _default(section: Section, name: str) -> Any:
    """Return the default of a key as a plain value; MISSING if there is none."""
    field = type(section).model_fields.get(name)  # a key of a basis is in no schema
    value = PydanticUndefined if field is None else field.get_default(call_default_factory=True)
    return MISSING if value is PydanticUndefined else to_jsonable_python(value)


def _rule(key: str, old: Any, value: Any, requested: TrainConfig) -> ResumeRule:
    """Return the rule of a change; sharded parameters (fsdp) cannot change their groups."""
    regroups = key in REGROUPING or (key == "optimizer.weight_decay" and 0 in (old, value))
    return "fixed" if regroups and requested.trainer.strategy == "fsdp" else find_rule(key)


def _relative(value: Any, folder: str) -> Any:
    """Return a value; of a path below a folder, the part below it."""
    return value.removeprefix(folder) if isinstance(value, str) else value
