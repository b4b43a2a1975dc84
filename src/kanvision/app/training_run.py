"""A training run as one object: its configuration and everything that is built from it, each thing once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import pytorch_lightning as pl
from rich.console import Console
from torch import nn

from kanvision.analysis.cost import Cost
from kanvision.callbacks import BestCheckpoint
from kanvision.checkpoints import CheckpointError, Start, begin_finetuning
from kanvision.config import TrainConfig, as_config_error
from kanvision.config.schema.transformers import KATConfig
from kanvision.console import build_console
from kanvision.data import ImageDataModule
from kanvision.layers import structure_changes
from kanvision.optim import build_optimizer
from kanvision.tasks import Task

from .budget import match_width
from .build import (
    build_task,
    build_trainer,
    fill_data_facts,
    is_dry_run,
    measure_cost,
    prepare_process,
    resolve_class_weights,
    setup_datamodule,
)
from .compilation import Compilation, choose_compilation
from .distributed import check_same_on_all_ranks, init_process_group
from .effective_batch import EffectiveBatch, clamp_warmup, split_global_batch
from .model import build_model
from .resume_point import ResumePoint, find_resume_point
from .teacher import load_teacher, resolve_teacher

__all__ = ["Settings", "TrainingRun", "build_run", "resolve_settings"]


class Settings(NamedTuple):
    """Settings of a run on the devices that are available."""

    cfg: TrainConfig
    """Configuration with the batch of one process and a warm-up that is shorter than the run."""
    trainer: pl.Trainer
    resume: ResumePoint | None
    """Checkpoint to resume from; None: training starts from the beginning."""
    warmup: str
    """Note on a shortened warm-up; may be empty."""


@dataclass
class TrainingRun:
    """A training run with all its objects."""

    cfg: TrainConfig
    """Configuration with the facts of the data."""
    trainer: pl.Trainer
    datamodule: ImageDataModule
    task: Task
    effective_batch: EffectiveBatch
    cost: Cost
    """Cost of the model as it was built."""
    resume: ResumePoint | None
    start: Start | None
    """Origin of the initial weights; None for a resumed run."""
    warmup: str
    """Note on a shortened warm-up; may be empty."""
    changes: Sequence[str]
    """Changes since the checkpoint of a resumed run, a line each."""
    compilation: Compilation
    """Choice of `trainer.compile`."""
    tested: str | None = None
    """Checkpoint that was tested; None: the last weights."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Results of training and test by name."""

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return Path(self.cfg.run.dir)

    @property
    def title(self) -> str:
        """Names of model and data set."""
        return f"{self.cfg.model.name} on {self.cfg.data.name}"

    @cached_property
    def console(self) -> Console:
        """Console of rank 0; other ranks print nothing."""
        return build_console(quiet=not self.trainer.is_global_zero)

    @property
    def score(self) -> float | None:
        """Best validation value of `monitor`, for sweeps; None if nothing was validated."""
        return self.metrics.get(f"best_{self.cfg.monitor}")

    @property
    def writes_files(self) -> bool:
        """True if this process writes the files of the run."""
        return self.trainer.is_global_zero and not is_dry_run(self.cfg)

    @property
    def best(self) -> BestCheckpoint | None:
        """Callback that keeps the best checkpoint."""
        return next((c for c in self.trainer.checkpoint_callbacks if isinstance(c, BestCheckpoint)), None)

    def final_cost(self) -> Cost:
        """Return the cost of the model after training, which may have changed its structure."""
        return measure_cost(self.cfg, self.task.model) if structure_changes(self.task.model) else self.cost

    def rebuild_task(self) -> None:
        """Build model and task again, as they were before training changed the structure of the model."""
        self.task = build_task(self.cfg, build_model(self.cfg), {}, compile=self.compilation.mode)


def resolve_settings(cfg: TrainConfig) -> Settings:
    """Return the settings of a run on the available devices; a collective call.

    Raises:
        CheckpointError: If `cfg.resume` names no checkpoint that training can be resumed from.
        ConfigError: If processes differ, the global batch cannot be split, a library refuses a setting, or a
            setting must not change on resume.
    """
    prepare_process(cfg)
    trainer = build_trainer(cfg)
    init_process_group(trainer)
    checkpoint = find_resume_point(cfg)
    check_same_on_all_ranks(cfg, checkpoint)
    cfg, warmup = clamp_warmup(split_global_batch(cfg, trainer.world_size))
    trainer.accumulate_grad_batches = cfg.trainer.accumulate_grad_batches or 1
    resume = None if checkpoint is None else ResumePoint(checkpoint, cfg)
    if resume is not None:
        resume.check_settings(cfg)  # before the data are read
    return Settings(cfg, trainer, resume, warmup)


def build_run(settings: Settings) -> TrainingRun:
    """Build data, model and task of a run, and check that they fit the checkpoint to resume from.

    Raises:
        DataError: If the data are missing or broken.
        CheckpointError: If initial weights, teacher or checkpoint do not fit the model or the classes.
        ConfigError: If a library refuses a setting, or training cannot be resumed with these data.
    """
    cfg, trainer, resume, warmup = settings
    datamodule = setup_datamodule(cfg)
    resumed = None if resume is None else resume.config
    cfg = match_width(resolve_teacher(fill_data_facts(cfg, datamodule), resumed), resumed)
    effective_batch = EffectiveBatch.from_config(cfg, trainer.world_size)
    model = build_model(cfg)
    start = _load_initial_weights(cfg, model, datamodule.class_names) if resume is None else None
    cost = measure_cost(cfg, model)
    rates = {"lr": effective_batch.lr, "kan_lr": effective_batch.kan_lr}
    compilation = choose_compilation(
        cfg,
        trainer.strategy.root_device.type,
        effective_batch.count_batches(datamodule.num_images["train"]),
    )
    task = build_task(cfg, model, rates, resolve_class_weights(cfg, datamodule), compilation.mode)
    task.class_names = datamodule.class_names
    with as_config_error(cfg, "optimizer.name"):
        build_optimizer(model, **task.optimizer_options)  # before files are written; training builds its own
    changes = [] if resume is None else resume.check_run(cfg, datamodule, task, trainer.world_size)
    return TrainingRun(
        cfg, trainer, datamodule, task, effective_batch, cost, resume, start, warmup, changes, compilation
    )


def _load_initial_weights(cfg: TrainConfig, model: nn.Module, class_names: Sequence[str]) -> Start:
    """Load the weights that the configuration names into a new model."""
    if isinstance(cfg.model, KATConfig) and cfg.model.init_from is not None:
        from kanvision.checkpoints import start_from_vit  # few runs need published weights

        try:
            start_from_vit(model, cfg.model.init_from, cfg.model.init_from_mode)
        except CheckpointError as error:
            raise CheckpointError(f"model.init_from={cfg.model.init_from}: {error}") from None
    load_teacher(cfg, model)
    options = cfg.finetune.model_dump()
    return begin_finetuning(model, class_names=class_names, runs_root=cfg.run.root, **options)
