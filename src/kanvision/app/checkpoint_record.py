"""Configuration and network of the run that wrote a checkpoint, as plain values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kanvision.checkpoints import CheckpointError
from kanvision.config import ConfigError, TrainConfig, to_primitive, train_config
from kanvision.config.schema.data import MaskDataConfig
from kanvision.export import InputRecord, NetworkRecord
from kanvision.spec.models import without_sources

from .model import kanify_arguments, model_arguments
from .results_folder import run_folder
from .teacher import teacher_config

__all__ = ["describe_network", "numbered_bands", "read_checkpoint_config", "read_facts"]

KEPT_FACTS = ("commit", "versions", "seed", "parameters", "train_cpu_seconds")
"""Entries of metrics.json, beside the scores, that the record of a network has."""


def read_checkpoint_config(path: Path, checkpoint: Mapping[str, Any]) -> TrainConfig:
    """Return the configuration of the run that wrote a checkpoint.

    Raises:
        CheckpointError: If the checkpoint holds none.
        ConfigError: If this version does not know it.
    """
    config = (checkpoint.get("kanvision") or {}).get("config")
    if config is None:
        raise CheckpointError(
            f"{path} carries no configuration, so train.py did not write it; "
            "eval.py evaluates checkpoints of train.py"
        )
    try:
        return train_config(config)
    except ConfigError as error:
        raise ConfigError(
            error.problems, f"the configuration in {path}, which another version may have made"
        ) from None


def describe_network(cfg: TrainConfig, state: Mapping[str, Any]) -> NetworkRecord:
    """Return the record of a trained network.

    Args:
        cfg: Configuration of the run.
        state: Entry `kanvision` of its checkpoint: names of classes, thresholds, changes of structure.
    """
    data = cfg.data
    cfg = cfg.model_copy(update={"model": cfg.model.without_weights()})
    assert data.num_classes is not None
    mode = data.mode if isinstance(data, MaskDataConfig) else None
    teacher = teacher_config(cfg)
    return NetworkRecord(
        **_describe(cfg),
        teacher={} if teacher is None else _describe(teacher),
        input=InputRecord(
            in_chans=data.in_chans,
            img_size=data.img_size,
            mean=tuple(data.mean or ()),
            std=tuple(data.std or ()),
            interpolation=data.interpolation,
            crop_pct=data.crop_pct,
            preprocessing=getattr(data, "preprocessing", "default"),
            bands=numbered_bands(cfg),
            max_value=getattr(data, "max_value", None),
        ),
        num_classes=data.num_classes,
        mode=mode,
        class_names=tuple(state.get("class_names") or ()),
        thresholds=_thresholds(cfg, mode, data.num_classes, state.get("thresholds")),
        structure=list(state.get("structure") or []),
        config=_without_folders(to_primitive(cfg)),
    )


def read_facts(path: Path) -> dict[str, Any]:
    """Return scores, commit, versions and seed of the run of a checkpoint, from its metrics.json."""
    file = run_folder(path) / "metrics.json"
    if not file.is_file():
        return {}
    values = json.loads(file.read_text("utf-8"))
    scores = {key: value for key, value in values.items() if key.startswith("test/") and value is not None}
    return {"scores": scores, **{key: values[key] for key in KEPT_FACTS if values.get(key) is not None}}


def numbered_bands(cfg: TrainConfig) -> tuple[int, ...] | None:
    """Return the numbers of the run's bands in a file; None if it names bands of separate files."""
    bands = getattr(cfg.data, "bands", None) or ()
    return tuple(bands) if bands and all(isinstance(band, int) for band in bands) else None


def _without_folders(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration for other machines, without the folders of this one."""
    run, place = config["run"], f"runs/{config['run']['name']}"

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: moved(item) for key, item in value.items()}
        if isinstance(value, list):
            return [moved(item) for item in value]
        return value.replace(run["dir"], place) if isinstance(value, str) else value

    data = config["data"]
    root = data.get("root")
    given = {"root": Path(root).name} if root and Path(root).is_absolute() else {}
    return moved({**config, "data": {**data, **given}, "run": {**run, "root": "runs"}})  # type: ignore[no-any-return]


def _describe(cfg: TrainConfig) -> dict[str, Any]:
    """Return what builds the network of a configuration."""
    builder = {
        "kind": cfg.model.kind,
        "name": cfg.model.name,
        "arguments": without_sources(model_arguments(cfg)),
    }
    return {**builder, "kanify": kanify_arguments(cfg)}


def _thresholds(cfg: TrainConfig, mode: str | None, num_classes: int, found: Any) -> tuple[float, ...]:
    """Return the threshold of each foreground class: those that the run has found, or that of its metrics."""
    if mode in (None, "multiclass"):
        return ()
    count = 1 if mode == "binary" else num_classes
    if cfg.metrics.threshold != "search":
        return (float(cfg.metrics.threshold),) * count
    return tuple(found) if found is not None and len(found) == count else (0.5,) * count
