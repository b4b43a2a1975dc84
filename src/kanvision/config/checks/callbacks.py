"""Rules on callbacks and loggers."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from kanvision.config.nested import MISSING, value_at
from kanvision.config.schema.root import TrainConfig
from kanvision.config.targets import allowed_targets, foreign_targets
from kanvision.spec.extras import EXTRAS

from .rules import Rule

__all__ = ["RULES"]

_UNSUPPORTED = {
    "StochasticWeightAveraging": (
        "its average reaches the network after the last checkpoint: no test and no resumed run would have it",
        "take callbacks=[default,swa], an average that is validated, tested and kept as best",
    ),
    "SpikeDetection": (
        "Lightning cannot load its state from a checkpoint, so no test and no resumed run could start",
        "take trainer.gradient_clip_val=1; callbacks.nonfinite_guard stops at losses that are not finite",
    ),
    "LearningRateFinder": (
        "it would train with a learning rate that the run's configuration does not hold",
        "take callbacks=[default,lr_finder], which draws the curve; or compare values: "
        "-m optimizer.lr=1e-4,3e-4,1e-3 trainer.max_epochs=2",
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


_WITH_WHOLE_WEIGHTS = ("GridUpdate", "BasisSelection", "LearningRateFinder")
"""Callbacks that change layers or copy weights, which FSDP shards."""
_LOGGERS = {"WandbLogger": "wandb", "MLFlowLogger": "mlflow"}
"""Logger of Lightning -> package that it imports."""
_LEARNED = ("finetune.init_from", "model.pretrained")


def _find(
    callbacks: dict[str, dict[str, Any]], *classes: str, package: str = "kanvision"
) -> list[tuple[str, str]]:
    """Return the key and the class of each callback that is one of these classes of a package."""
    targets = {name: str(arguments.get("_target_")) for name, arguments in callbacks.items()}
    return [
        (name, target.rpartition(".")[2])
        for name, target in targets.items()
        if target.startswith(f"{package}.") and target.rpartition(".")[2] in classes
    ]


def _missing_loggers(loggers: dict[str, dict[str, Any]]) -> list[dict[str, str]]:
    """Return the loggers of Lightning whose package is not installed."""
    return [
        {"name": name, "package": _LOGGERS[cls], "extra": EXTRAS[_LOGGERS[cls]]}
        for name, cls in _find(loggers, *_LOGGERS, package="pytorch_lightning")
        if find_spec(_LOGGERS[cls]) is None
    ]


def _unsupported(callbacks: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    found = _find(callbacks, *_UNSUPPORTED, package="pytorch_lightning")
    return [{"name": name, "why": _UNSUPPORTED[cls][0], "fix": _UNSUPPORTED[cls][1]} for name, cls in found]


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
        for name, _ in _find(config.callbacks, "GradientAccumulationScheduler", package="pytorch_lightning")
        for key, fits in is_default.items()
        if not fits
    ]


def _moved_grids(config: TrainConfig) -> list[dict[str, Any]]:
    set_keys = [key for key in _LEARNED if value_at(config, key) not in (MISSING, None, False)]
    return [
        {"name": name, "key": key}
        for name, _ in _find(config.callbacks, "GridUpdate")
        for key in set_keys
        if config.callbacks[name].get("at_start") and config.resume is None
    ]


# fmt: off
RULES = (
    Rule("callbacks.{name}._target_", _unsupported, "{why}", "{fix}", reads="callbacks"),
    Rule("callbacks.{name}._target_ {key}", _accumulation,
         "the callback sets the number of batches of an optimizer step", "{fix}", reads="*"),
    Rule("callbacks.{name}.at_start {key}", _moved_grids,
         "grids would move away from functions that are already trained",
         "take callbacks.{name}.at_start=false; grids then move together with their functions", reads="*"),
    Rule("logger.{name}._target_", _missing_loggers, "it needs the package {package}, which is not installed",
         'pip install "kanvision[{extra}]"', reads="logger"),
    Rule("ema callbacks.{name}",
         lambda ema, callbacks: ema is not None
         and [{"name": name} for name, _ in _find(callbacks, "SWAWeights")],
         "a run has one average of its weights", "take ema=null, or leave the callback out",
         reads="ema callbacks"),
    Rule("trainer.strategy callbacks.{name}",
         lambda strategy, callbacks: strategy == "fsdp"
         and [{"name": name} for name, _ in _find(callbacks, *_WITH_WHOLE_WEIGHTS)],
         "the callback needs whole weights", "take trainer.strategy=ddp",
         reads="trainer.strategy callbacks"),
    Rule("{key}",
         lambda config: [{"key": key, "legal": ", ".join(allowed_targets())}
                         for key in foreign_targets(config)],
         "a configuration may only call what belongs to a known package", "legal beginnings: {legal}",
         reads="*"),
)
# fmt: on
