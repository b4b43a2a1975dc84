"""Losses and metrics: which ones fit the data, and what they are called in the logs."""

from __future__ import annotations

from collections.abc import Iterator

from kanvision.config.errors import Problem, problem_at
from kanvision.config.keys import closest
from kanvision.config.schema.data import MaskDataConfig
from kanvision.config.schema.root import TrainConfig
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

__all__ = ["logged", "score_problems"]


def score_problems(config: TrainConfig) -> Iterator[Problem]:
    """Everything that is wrong between `loss`, `metrics`, `monitor` and the data."""
    yield from _loss(config)
    if isinstance(config.data, MaskDataConfig):
        yield from _metrics(config, config.data.mode)
    yield from _monitor(config)
    yield from _plateau(config)


def logged(config: TrainConfig) -> list[str]:
    """Names of what validation logs, without `val/`."""
    data = config.data
    if not isinstance(data, MaskDataConfig):
        few = data.num_classes is not None and data.num_classes <= 5  # acc5 is always 1, so it is not logged
        return [name for name in CLASSIFICATION_METRICS if not (few and name == "acc5")]
    scores = [score + PROTOCOL_SUFFIXES[protocol] for protocol in config.metrics.protocol for score in SCORES]
    first = 1 if data.mode == "multiclass" else 0
    foreground = 1 if data.mode == "binary" else (data.num_classes or 1) - first
    if config.metrics.per_class and foreground > 1:
        scores += [f"{score}_class{i + 1}" for score in scores for i in range(foreground)]
    return ["loss", "training_loss", *scores]


def _loss(config: TrainConfig) -> Iterator[Problem]:
    loss, data = config.loss, config.data
    is_masks = isinstance(data, MaskDataConfig)
    if isinstance(data, MaskDataConfig):
        legal = [name for name, modes in SEGMENTATION_LOSSES.items() if data.mode in modes]
        key, what = "data.mode", f"{data.mode} masks"
    else:
        legal, key, what = [*CLASSIFICATION_LOSSES], "data.task", data.task
    if loss.name not in legal:
        yield problem_at(config, ["loss.name", key], f"no loss for {what}", f"legal: {', '.join(legal)}")
    if is_masks and loss.label_smoothing and loss.name not in SMOOTHED_LOSSES:
        why = "this loss of masks does not smooth labels"
        fix = f"take loss.label_smoothing=0, or one of {', '.join(SMOOTHED_LOSSES)}"
        yield problem_at(config, ["loss.label_smoothing", "loss.name"], why, fix)


def _metrics(config: TrainConfig, mode: str) -> Iterator[Problem]:
    if mode == "multiclass" and config.metrics.threshold != 0.5:
        why = "of multiclass masks the most probable class is taken"
        yield problem_at(config, ["metrics.threshold", "data.mode"], why, "leave it at 0.5")
    if mode != "binary" and config.metrics.objects:
        why = "objects are found in binary masks"
        yield problem_at(config, ["metrics.objects", "data.mode"], why, "take metrics.objects=false")


def _monitor(config: TrainConfig) -> Iterator[Problem]:
    if config.model.kind != KIND_BY_TASK[config.data.task]:
        return  # one of the two will change, and the metric with it
    names = {f"val/{name}": "min" if name in LOWER_IS_BETTER else "max" for name in logged(config)}
    names["train/loss"] = "min"
    monitors = {"monitor": config.monitor}
    for name, arguments in config.callbacks.items():
        if isinstance(arguments.get("monitor"), str):
            monitors[f"callbacks.{name}.monitor"] = arguments["monitor"]
    for key, metric in monitors.items():
        if metric in names or (key != "monitor" and metric == config.monitor):
            continue
        near = closest(metric, list(names), limit=1)
        fix = f"legal: {', '.join([*near, *(name for name in names if name not in near)])}"
        yield Problem((key,), (f"{key}={metric}",), f"{config.data.task} logs no such metric", fix)
    sign = names.get(config.monitor, config.monitor_mode)
    if sign != config.monitor_mode:
        why = f"of {config.monitor}, {'less' if sign == 'min' else 'more'} is better"
        yield problem_at(config, ["monitor_mode", "monitor"], why, f"take monitor_mode={sign}")


def _plateau(config: TrainConfig) -> Iterator[Problem]:
    if config.scheduler.name != "plateau":
        return
    if config.scheduler.interval != "epoch":
        why = "a plateau is seen after a validation"
        yield problem_at(
            config, ["scheduler.name", "scheduler.interval"], why, "take scheduler.interval=epoch"
        )
    if not config.monitor.startswith("val/"):
        why = "a plateau is one of a metric of validation"
        yield problem_at(config, ["scheduler.name", "monitor"], why, "take monitor=val/loss monitor_mode=min")
    if config.trainer.limit_val_batches == 0:
        why = "nothing is validated, so no plateau would be seen"
        keys = ["scheduler.name", "trainer.limit_val_batches"]
        yield problem_at(config, keys, why, "take another schedule, or validate")
