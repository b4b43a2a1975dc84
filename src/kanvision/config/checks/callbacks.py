"""Rules on callbacks."""

from __future__ import annotations

from typing import Any

from kanvision.config.schema.root import TrainConfig
from kanvision.config.targets import ALLOWED_TARGETS, foreign_targets

from .rules import MISSING, Rule, value_at

__all__ = ["RULES"]

_UNSUPPORTED = {
    "StochasticWeightAveraging": (
        "its average reaches the network after the last checkpoint: no test and no resumed run would have it",
        "take ema.decay=0.99, an average that is validated, tested and kept as best",
    ),
    "SpikeDetection": (
        "Lightning cannot load its state from a checkpoint, so no test and no resumed run could start",
        "take trainer.gradient_clip_val=1; callbacks.nonfinite_guard stops at losses that are not finite",
    ),
    "LearningRateFinder": (
        "it would train with a learning rate that the run's configuration does not hold",
        "compare values in short runs: python train.py -m optimizer.lr=1e-4,3e-4,1e-3 trainer.max_epochs=2",
    ),
    "BatchSizeFinder": (
        "it would train with a batch size that the run's configuration does not hold",
        "try out values of data.batch_size with trainer.fast_dev_run=true",
    ),
    "BackboneFinetuning": (
        "no network here has an attribute backbone",
        "take finetune.init_from and finetune.freeze",
    ),
}
"""Callback of Lightning that cannot work here -> reason, and the setting that does the same."""


_LEARNED = ("finetune.init_from", "model.pretrained")


def _named(callbacks: dict[str, dict[str, Any]], *endings: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the callbacks whose class has one of these names, with their arguments."""
    return [item for item in callbacks.items() if str(item[1].get("_target_")).rpartition(".")[2] in endings]


def _unsupported(callbacks: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for name, arguments in _named(callbacks, *_UNSUPPORTED):
        why, fix = _UNSUPPORTED[arguments["_target_"].rpartition(".")[2]]
        if arguments["_target_"].startswith("pytorch_lightning."):
            found.append({"name": name, "why": why, "fix": fix})
    return found


def _accumulation(config: TrainConfig) -> list[dict[str, Any]]:
    trainer, data = config.trainer, config.data
    is_default = {
        "trainer.accumulate_grad_batches": trainer.accumulate_grad_batches in (None, 1),
        "trainer.global_batch_size": trainer.global_batch_size is None,
        "optimizer.lr_scaling": config.optimizer.lr_scaling == "none",
        # the recipe's batch may be too large for a device, and is then accumulated
        "data.batch_size": data.batch_size is not None or config.recipe.micro_batch_size is None,
    }
    return [
        {"name": name, "key": key, "fix": "set it" if key == "data.batch_size" else "leave one out"}
        for name, arguments in _named(config.callbacks, "GradientAccumulationScheduler")
        for key, fits in is_default.items()
        if not fits and arguments["_target_"].startswith("pytorch_lightning.")
    ]


def _moved_grids(config: TrainConfig) -> list[dict[str, Any]]:
    set_keys = [key for key in _LEARNED if value_at(config, key) not in (MISSING, None, False)]
    return [
        {"name": name, "key": key}
        for name, arguments in _named(config.callbacks, "GridUpdate")
        for key in set_keys
        if arguments.get("at_start") and config.resume is None
    ]


# fmt: off
RULES = (
    Rule("callbacks.{name}._target_", _unsupported, "{why}", "{fix}", reads="callbacks"),
    Rule("callbacks.{name}._target_ {key}", _accumulation,
         "the callback sets the number of batches of an optimizer step", "{fix}", reads="*"),
    Rule("callbacks.{name}.at_start {key}", _moved_grids,
         "grids would move away from functions that are already trained",
         "take callbacks.{name}.at_start=false; grids then move together with their functions", reads="*"),
    Rule("trainer.strategy callbacks.{name}",
         lambda strategy, callbacks: strategy == "fsdp"
         and [{"name": name} for name, _ in _named(callbacks, "GridUpdate", "BasisSelection")],
         "a callback that changes layers during training needs whole weights", "take trainer.strategy=ddp",
         reads="trainer.strategy callbacks"),
    Rule("{key}", lambda config: [{"key": key} for key in foreign_targets(config)],
         "a configuration may only call what belongs to a known package",
         f"legal beginnings: {', '.join(ALLOWED_TARGETS)}", reads="*"),
)
# fmt: on
