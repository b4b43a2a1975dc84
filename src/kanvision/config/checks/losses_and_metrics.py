"""Rules on losses and metrics, and the names of the metrics that validation logs."""

from __future__ import annotations

from typing import Any

from kanvision.config.schema.data import MaskDataConfig
from kanvision.config.schema.root import TrainConfig
from kanvision.config.suggestions import closest, closest_first
from kanvision.plugins import LOSSES, METRICS, find_arguments
from kanvision.spec.tasks import (
    CLASSIFICATION_LOSSES,
    CLASSIFICATION_METRICS,
    KIND_BY_TASK,
    LOWER_IS_BETTER,
    PROTOCOL_SUFFIXES,
    SCORES,
    SEGMENTATION_LOSSES,
    SMOOTHED_LOSSES,
)

from .rules import Rule

__all__ = ["RULES", "logged"]


def logged(config: TrainConfig) -> list[str]:
    """Return the names of the metrics that validation logs, without `val/`."""
    data = config.data
    if not isinstance(data, MaskDataConfig):
        few = data.num_classes is not None and data.num_classes <= 5  # acc5 would always be 1
        names = [name for name in CLASSIFICATION_METRICS if not (few and name == "acc5")]
        return [*names, *config.metrics.extra]
    scores = [score + PROTOCOL_SUFFIXES[protocol] for protocol in config.metrics.protocol for score in SCORES]
    first = 1 if data.mode == "multiclass" else 0
    foreground = 1 if data.mode == "binary" else (data.num_classes or 1) - first
    if config.metrics.per_class and foreground > 1:
        scores += [f"{score}_class{i + 1}" for score in scores for i in range(foreground)]
    return ["loss", "training_loss", *scores, *config.metrics.extra]


def _unfit_loss(name: str, data: Any) -> dict[str, Any] | None:
    task, own = data.task, [loss for loss, entry in LOSSES.items() if entry.task == data.task]
    legal: list[str]
    if isinstance(data, MaskDataConfig):
        legal = [loss for loss, modes in SEGMENTATION_LOSSES.items() if data.mode in modes]
        key, use = "data.mode", f"{data.mode} masks"
    else:
        legal, key, use = [*CLASSIFICATION_LOSSES], "data.task", task
    legal += own
    return None if name in legal else {"key": key, "use": use, "legal": ", ".join(legal)}


def _unfit_weights(loss: Any, data: Any) -> dict[str, Any] | None:
    weights = loss.class_weights
    if weights is None:
        return None
    if isinstance(data, MaskDataConfig):
        why, fix = "masks have no class of an image", "leave it out; focal and tversky weight rare pixels"
        return {"key": "data.task", "why": why, "fix": fix}
    if loss.name != "cross_entropy":
        return {
            "key": "loss.name",
            "why": f"{loss.name} has no weights of classes",
            "fix": "take loss.name=cross_entropy",
        }
    if data.sampling == "balanced":
        fix = "take one of the two"
        return {"key": "data.sampling", "why": "rare classes would count twice", "fix": fix}
    if isinstance(weights, list) and data.num_classes not in (None, len(weights)):
        why = f"{len(weights)} weights for {data.num_classes} classes"
        return {"key": "data.num_classes", "why": why, "fix": "give one for each class"}
    if isinstance(weights, list) and not any(weights):
        return {"key": "loss.name", "why": "all weights are 0", "fix": "give one class a weight"}
    return None


def _unknown_arguments(name: str, kwargs: dict[str, Any]) -> dict[str, Any] | None:
    """Return what to say of arguments that the loss does not take."""
    entry = LOSSES.get(name)
    legal = [] if entry is None else find_arguments(entry.build)
    unknown = [key for key in kwargs if key not in legal]
    owner = "this loss takes" if legal else "this loss takes none"
    return {"names": ", ".join(unknown), "legal": f"{owner} {', '.join(legal)}".strip()} if unknown else None


def _unknown_extra(names: list[str], task: str) -> dict[str, Any] | None:
    legal = [name for name, metric in METRICS.items() if metric.task == task]
    unknown = [name for name in names if name not in legal]
    fix = (
        f"legal: {', '.join(legal)}" if legal else "no plugin that brings one is loaded: plugins=[my_package]"
    )
    return {"names": ", ".join(unknown), "fix": fix} if unknown else None


def _directions(config: TrainConfig) -> dict[str, str]:
    """Return min or max for each metric that may be monitored; empty if the model does not fit the task."""
    if config.model.kind != KIND_BY_TASK[config.data.task]:
        return {}  # the metrics are not known before one of the two changes
    lower = {*LOWER_IS_BETTER, *(name for name, metric in METRICS.items() if metric.lower_is_better)}
    names = {f"val/{name}": "min" if name in lower else "max" for name in logged(config)}
    return names | {"train/loss": "min"}


def _unknown_metrics(config: TrainConfig, _: str) -> list[dict[str, Any]]:
    names = _directions(config)
    monitors = {"monitor": config.monitor}
    for name, arguments in config.callbacks.items():
        metric = arguments.get("monitor")
        if isinstance(metric, str) and metric != config.monitor:
            monitors[f"callbacks.{name}.monitor"] = metric
    return [
        {"key": key, "legal": ", ".join(closest_first(closest(metric, names, limit=1), names))}
        for key, metric in monitors.items()
        if names and metric not in names
    ]


def _wrong_direction(config: TrainConfig) -> dict[str, Any] | None:
    right = _directions(config).get(config.monitor, config.monitor_mode)
    words = {"monitor": config.monitor, "right": right, "better": "lower" if right == "min" else "higher"}
    return words if right != config.monitor_mode else None


# fmt: off
RULES = (
    Rule("loss.class_weights {key}", _unfit_weights, "{why}", "{fix}", reads="loss data"),
    Rule("loss.name {key}", _unfit_loss, "no loss for {use}", "legal: {legal}", reads="loss.name data"),
    Rule("loss.kwargs loss.name", lambda kwargs, name: _unknown_arguments(name, kwargs),
         "no arguments of the loss: {names}", "{legal}"),
    Rule("metrics.extra data.task", _unknown_extra, "no such metric: {names}", "{fix}"),
    Rule("loss.label_smoothing loss.name",
         lambda smoothing, name, _: smoothing and name not in SMOOTHED_LOSSES,
         "this loss of masks does not smooth labels",
         f"take loss.label_smoothing=0, or one of {', '.join(SMOOTHED_LOSSES)}",
         reads="loss.label_smoothing loss.name data.mode"),
    Rule("metrics.threshold data.mode", lambda threshold, mode: mode == "multiclass" and threshold != 0.5,
         "a multiclass mask holds the most probable class of each pixel", "leave it at 0.5"),
    Rule("metrics.objects data.mode", lambda objects, mode: mode != "binary" and objects,
         "objects are found in binary masks", "take metrics.objects=false"),
    Rule("{key}", _unknown_metrics, "{task} logs no such metric", "legal: {legal}", reads="* data.task"),
    Rule("monitor_mode monitor", _wrong_direction,
         "a {better} {monitor} is better", "take monitor_mode={right}", reads="*"),
    Rule("scheduler.name scheduler.interval", lambda name, unit: name == "plateau" and unit != "epoch",
         "a plateau is detected after a validation", "take scheduler.interval=epoch"),
    Rule("scheduler.name monitor",
         lambda name, metric: name == "plateau" and not metric.startswith("val/"),
         "a plateau is detected in a metric of validation", "take monitor=val/loss monitor_mode=min"),
    Rule("scheduler.name trainer.val_check_interval",
         lambda name, interval: name == "plateau" and interval != 1.0,
         "a plateau counts one validation an epoch", "take trainer.val_check_interval=1.0"),
    Rule("scheduler.name trainer.limit_val_batches", lambda name, limit: name == "plateau" and limit == 0,
         "without validation no plateau is detected", "take another schedule, or validate"),
)
# fmt: on
