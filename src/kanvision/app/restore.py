"""A checkpoint becomes the task that it was saved from: its own configuration, network and weights."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from kanvision.checkpoints import (
    CheckpointError,
    extract_state_dict,
    find_checkpoint,
    load_checkpoint,
    match_structure,
)
from kanvision.config import ConfigError, EvalConfig, TrainConfig, train_config
from kanvision.config.errors import problem_at
from kanvision.config.schema.data import AnyData, SegmentationFolderConfig
from kanvision.tasks import Task

from .build import build_model, build_task, prepare


class Restored(NamedTuple):
    """A trained network as `eval.py` works with it."""

    path: Path
    """The checkpoint file."""
    run: TrainConfig
    """Configuration of the run that wrote it, with what the evaluation asks to be different."""
    task: Task
    """The task with the weights of the checkpoint and what else it had found out (such as a threshold)."""


def restore(cfg: EvalConfig) -> Restored:
    """Load what `cfg.ckpt` names; the process gets the run's seed and precision of matrix products.

    Raises:
        CheckpointError: If the file is none of ours, is damaged, or does not fit its own configuration.
        ConfigError: If this version does not know the checkpoint's configuration.
    """
    path = find_checkpoint(cfg.ckpt, runs_root=cfg.run_root)
    checkpoint = load_checkpoint(path)
    run = _changed(read_checkpoint_config(path, checkpoint), cfg)
    prepare(run)
    if cfg.mode != "predict" and (note := _limit_note(run)):
        warnings.warn(note, stacklevel=2)
    task = build_task(run, build_model(run), {})
    task.model.load_state_dict(matching_state_dict(task, checkpoint, path))
    task.load_extra_state(checkpoint["kanvision"])
    task.config = checkpoint["kanvision"]["config"]  # the run's own, without what is different here
    return Restored(path, run, task)


def matching_state_dict(task: Task, checkpoint: Mapping[str, Any], path: str | Path) -> dict[str, Tensor]:
    """The checkpoint's weights under the network's own names; the network gets its structure."""
    try:
        match_structure(task.model, checkpoint)
        return extract_state_dict(task.model, checkpoint)
    except CheckpointError as error:
        assert task.config is not None
        raise CheckpointError(f"{path} does not fit {task.config['model']['name']}: {error}") from None


def read_checkpoint_config(path: Path, checkpoint: Mapping[str, Any]) -> TrainConfig:
    """The configuration of the run that wrote a checkpoint."""
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


def override_data(run: TrainConfig, cfg: EvalConfig) -> AnyData:
    """A run's data with what the evaluation asks to be different; fetched if the evaluation asks for it.

    Raises:
        ConfigError: If something is asked for that this data set does not have.
    """
    asked = cfg.data.model_dump(exclude_none=True)
    if absent := [f"data.{key}" for key in asked if key not in type(run.data).model_fields]:
        why = f"data.name={run.data.name} of the run does not have it"
        raise ConfigError([problem_at(cfg, absent, why, "leave it out")])
    data = run.data.model_copy(update={"download": False, **asked})
    if isinstance(data, SegmentationFolderConfig) and data.foreground is not None and data.threshold:
        why = "a threshold decides by gray levels"
        raise ConfigError(
            [problem_at(cfg, ["data.foreground", "data.threshold"], why, "take data.threshold=0")]
        )
    if cfg.data.batch_size is not None:
        data = data.model_copy(update={"eval_batch_size": cfg.data.batch_size})
    return data


def _limit_note(run: TrainConfig) -> str:
    """Return a remark about a run of an older version, whose `data.limit` cut validation and test as well."""
    limit = run.data.limit
    if limit is None or "limit_test" in run.data.model_fields_set:
        return ""
    return (
        f"this run is older than data.limit_test: its data.limit={limit} limited validation and test as "
        f"well, which now have all their images; data.limit_test={limit} takes those of before"
    )


def _changed(run: TrainConfig, cfg: EvalConfig) -> TrainConfig:
    """A run's configuration with what the evaluation asks to be different."""
    data = override_data(run, cfg)
    precision = {} if cfg.trainer.precision is None else {"precision": cfg.trainer.precision}
    # One pass over the images seldom pays for compiling.
    trainer = run.trainer.model_copy(update={"compile": False, **precision})
    # The weights are in the checkpoint, which may come from anywhere: nothing is fetched or read for it.
    return run.model_copy(update={"data": data, "trainer": trainer, "model": run.model.without_weights()})


def run_folder(path: Path) -> Path:
    """The run that a checkpoint lies in, or the checkpoint's own folder."""
    return path.parent.parent if path.parent.name == "checkpoints" else path.parent
