"""A run restored from its checkpoint for `eval.py`: its configuration, data, model and weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import track
from torch import Tensor

from kanvision.checkpoints import (
    CheckpointError,
    extract_state_dict,
    find_checkpoint,
    load_checkpoint,
    match_structure,
)
from kanvision.config import ConfigError, EvalConfig, TrainConfig, as_config_error
from kanvision.config.schema.data import AnyData, SegmentationFolderConfig
from kanvision.console import build_console
from kanvision.data import ImageDataModule
from kanvision.tasks import Task

from .build import build_task, prepare_process, setup_datamodule
from .checkpoint_record import read_checkpoint_config
from .model import build_model
from .results_folder import results_folder

__all__ = ["RestoredRun", "matching_state_dict", "override_data", "require_images", "restore"]

Item = TypeVar("Item")


def require_images(datamodule: ImageDataModule, split: str) -> None:
    """Raise DataError if a split is empty, as the training images of data for evaluation may be."""
    if not len(datamodule.datasets[split]):
        raise datamodule.reader.error(f"{datamodule.root}: the split {split} holds no image")


@dataclass(frozen=True)
class RestoredRun:
    """A trained model with its run, as `eval.py` works with it."""

    cfg: EvalConfig
    """Configuration of the evaluation."""
    path: Path
    """Path of the checkpoint."""
    train_cfg: TrainConfig
    """Configuration of the run that wrote the checkpoint, with the overrides of the evaluation."""
    task: Task
    """Task with the weights and the other state of the checkpoint (such as a threshold)."""

    @property
    def title(self) -> str:
        """Names of model and data set."""
        return f"{self.train_cfg.model.name} on {self.train_cfg.data.name}"

    @cached_property
    def console(self) -> Console:
        """Console of the evaluation."""
        return build_console()

    @cached_property
    def datamodule(self) -> ImageDataModule:
        """Data, which are read at the first use; only the evaluated split needs images."""
        datamodule = setup_datamodule(self.train_cfg, self.task.class_names)
        require_images(datamodule, self.cfg.split)
        return datamodule

    @cached_property
    def device(self) -> torch.device:
        """Device of the evaluation."""
        with as_config_error(self.cfg, "trainer.accelerator"):
            return Fabric(accelerator=self.cfg.trainer.accelerator, devices=1).device

    def freeze(self) -> None:
        """Put the task into evaluation mode, in float32, without gradients, on the device."""
        self.task.eval().requires_grad_(False).to(self.device, torch.float32)

    def results_folder(self, kind: str) -> Path:
        """Return the folder of results of one kind, such as eval."""
        return results_folder(self.cfg, self.path, self.task.config, kind)

    def facts(self) -> dict[str, Any]:
        """Return what was evaluated, for a record."""
        return {
            "checkpoint": str(self.path),
            "model": self.train_cfg.model.name,
            "data": self.train_cfg.data.name,
            "root": self.train_cfg.data.root,
            "seed": self.train_cfg.seed,
        }

    def track(self, items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
        """Yield the items, with a progress bar."""
        is_quiet = not self.cfg.trainer.enable_progress_bar
        yield from track(
            items, description, total=total, console=self.console, transient=True, disable=is_quiet
        )


def restore(cfg: EvalConfig) -> RestoredRun:
    """Restore the run of a checkpoint; the process gets its seed and its precision of matrix products.

    Raises:
        CheckpointError: If the file is none of ours, is damaged, or does not fit its own configuration.
        ConfigError: If this version does not know the checkpoint's configuration.
    """
    path = find_checkpoint(cfg.ckpt, runs_root=cfg.run_root)
    checkpoint = load_checkpoint(path)
    train_cfg = _override(read_checkpoint_config(path, checkpoint), cfg)
    prepare_process(train_cfg)
    if cfg.mode != "predict" and (note := _limit_note(train_cfg)):
        warnings.warn(note, stacklevel=2)
    task = build_task(train_cfg, build_model(train_cfg, fetch=False), {})
    task.model.load_state_dict(matching_state_dict(task, checkpoint, path))
    task.load_extra_state(checkpoint["kanvision"])
    task.config = checkpoint["kanvision"]["config"]  # that of the run, without overrides
    return RestoredRun(cfg, path, train_cfg, task)


def matching_state_dict(task: Task, checkpoint: Mapping[str, Any], path: str | Path) -> dict[str, Tensor]:
    """Return a checkpoint's weights by the names of the task's model, which gets the checkpoint's structure.

    Raises:
        CheckpointError: If they do not fit the model.
    """
    try:
        match_structure(task.model, checkpoint)
        return extract_state_dict(task.model, checkpoint)
    except CheckpointError as error:
        assert task.config is not None
        raise CheckpointError(f"{path} does not fit {task.config['model']['name']}: {error}") from None


def override_data(train_cfg: TrainConfig, cfg: EvalConfig) -> AnyData:
    """Return the data of a run with the overrides of the evaluation; downloaded only if these say so.

    Raises:
        ConfigError: If the data set does not have an overridden key.
    """
    overrides = cfg.data.model_dump(exclude_none=True)
    if absent := [f"data.{key}" for key in overrides if key not in type(train_cfg.data).model_fields]:
        why = f"data.name={train_cfg.data.name} of the run does not have it"
        raise ConfigError.at(cfg, absent, why, "leave it out")
    data = train_cfg.data.model_copy(update={"download": False, **overrides})
    if isinstance(data, SegmentationFolderConfig) and data.foreground is not None and data.threshold:
        why = "a threshold decides by gray levels"
        raise ConfigError.at(cfg, ["data.foreground", "data.threshold"], why, "take data.threshold=0")
    if cfg.data.batch_size is not None:
        data = data.model_copy(update={"eval_batch_size": cfg.data.batch_size})
    return data


def _limit_note(train_cfg: TrainConfig) -> str:
    """Return a note on a run of an older version, whose `data.limit` applied to validation and test too."""
    limit = train_cfg.data.limit
    if limit is None or "limit_test" in train_cfg.data.model_fields_set:
        return ""
    return (
        f"this run is older than data.limit_test: its data.limit={limit} limited validation and test as "
        f"well, which now have all their images; data.limit_test={limit} takes those of before"
    )


def _override(train_cfg: TrainConfig, cfg: EvalConfig) -> TrainConfig:
    """Return the configuration of a run with the overrides of the evaluation."""
    data = override_data(train_cfg, cfg)
    precision = {} if cfg.trainer.precision is None else {"precision": cfg.trainer.precision}
    # one pass over the images is seldom worth compiling
    trainer = train_cfg.trainer.model_copy(update={"compile": False, **precision})
    # The weights are in the checkpoint, which may come from anywhere: no other file is read for it.
    model = train_cfg.model.without_weights()
    return train_cfg.model_copy(update={"data": data, "trainer": trainer, "model": model})
