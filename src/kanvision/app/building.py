"""Builds the objects that a run's configuration names: data, network, task, trainer."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.accelerators import AcceleratorRegistry
from pytorch_lightning.callbacks import Callback, Checkpoint
from pytorch_lightning.callbacks import ProgressBar as AnyProgressBar
from pytorch_lightning.loggers import Logger
from pytorch_lightning.profilers import AdvancedProfiler, PyTorchProfiler, SimpleProfiler
from torch import nn

from kanvision import record
from kanvision.analysis.cost import Cost, cost
from kanvision.callbacks import DataFaults, EMAWeights, gathered
from kanvision.config import ConfigError, TrainConfig, blaming, is_first_of_machine, share_batch, to_primitive
from kanvision.config.data_schema import MaskDataConfig
from kanvision.config.model_schema import KanifyConfig, TimmConfig
from kanvision.config.problems import Problem, conflict, is_first_process
from kanvision.config.transformer_schema import TransformerConfig
from kanvision.data import ImageDataModule, build_datamodule
from kanvision.data.cores import num_cores
from kanvision.models import BUILDERS, kanify, patch_size_for
from kanvision.tasks import TASKS, Task

from .sharding import Sharded
from .stopping import listens_alone
from .sync_norm import SyncNorm
from .targets import built_section
from .teaching import taught

PROFILERS = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler}


def prepare(cfg: TrainConfig) -> None:
    """Settings of the whole process."""
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    torch.set_float32_matmul_precision(cfg.trainer.matmul_precision)
    record.keep_quiet()
    if not is_first_process():
        warnings.simplefilter("ignore")  # the first one says the same


def unread_datamodule_of(cfg: TrainConfig, known_classes: Sequence[str] = ()) -> ImageDataModule:
    """The data as the configuration describes them; nothing is read."""
    facts = cfg.data.model_dump(exclude={"task"})
    if cfg.data.batch_size is None and (share := share_batch(cfg, num_processes=1)) is not None:
        facts["batch_size"] = share.images
    # More than one a core slows loading down; what is loaded does not depend on their number.
    facts["num_workers"] = min(cfg.data.num_workers, num_cores())
    return build_datamodule(
        cfg.data.task,
        **facts,
        augment=cfg.augment.model_dump(),
        seed=cfg.seed,
        known_classes=known_classes,
    )


def datamodule_of(cfg: TrainConfig, known_classes: Sequence[str] = ()) -> ImageDataModule:
    """The data, found and judged (see `DataError`), ready to give batches; a collective call.

    One process of each machine fetches them if they are missing, and the others wait for that.

    Args:
        cfg: Describes them.
        known_classes: Names of the classes of a trained network that labels have to mean; empty: any.
    """
    datamodule = unread_datamodule_of(cfg, known_classes)
    if is_first_of_machine():
        datamodule.prepare_data()
    gathered(None)
    datamodule.setup()
    return datamodule


def with_facts_of(cfg: TrainConfig, datamodule: ImageDataModule) -> TrainConfig:
    """The configuration with what the data turned out to have: number of classes, mean, std, palette."""
    count, spec = {"num_classes": datamodule.num_classes}, datamodule.spec
    facts: dict[str, Any] = {**count, "mean": list(spec.mean), "std": list(spec.std)}
    if (palette := getattr(datamodule.reader, "palette", None)) is not None:
        facts["palette"] = dict(palette.given)  # a checkpoint may be used where the file is not
    data, model = cfg.data.model_copy(update=facts), cfg.model.model_copy(update=count)
    return cfg.model_copy(update={"data": data, "model": model})


def model_of(cfg: TrainConfig) -> nn.Module:
    """The network with fresh weights, joined with that of its teacher if it has one."""
    arguments = cfg.model.arguments()
    if cfg.model.takes_basis:
        arguments |= {"basis": cfg.basis.name, "basis_kwargs": cfg.basis.arguments()}
    given = {"model.kwargs": cfg.model.kwargs, "basis.name": cfg.model.takes_basis}
    with blaming(cfg, "model.name", *(key for key, is_given in given.items() if is_given)):
        if isinstance(cfg.model, TransformerConfig):
            arguments.setdefault("patch_size", patch_size_for(cfg.model.img_size))
        model = BUILDERS[cfg.model.kind](cfg.model.name, **arguments)
    changes = cfg.model.kanify if isinstance(cfg.model, TimmConfig) else None
    if changes is not None and (changes.mlp or changes.attention or changes.conv):
        changed = [f"model.kanify.{key}" for key, value in changes if value != getattr(KanifyConfig(), key)]
        with blaming(cfg, "model.name", *changed):
            kanify(model, **changes.model_dump())
    return taught(cfg, model, model_of)


def cost_of(cfg: TrainConfig, model: nn.Module) -> Cost:
    """Cost of one image; its forward pass is the first that the model sees of the data's size."""
    with blaming(cfg, "model.name", "data.in_chans", "data.img_size"):
        return cost(model, (cfg.data.in_chans, cfg.data.img_size, cfg.data.img_size))


def task_of(cfg: TrainConfig, model: nn.Module, rates: Mapping[str, float | None]) -> Task:
    """The task of the data around `model`; `rates` replaces learning rates of the configuration."""
    assert cfg.data.num_classes is not None
    loss = cfg.loss.model_dump(include={"name", "label_smoothing"})
    of_masks: dict[str, Any] = {}
    if isinstance(cfg.data, MaskDataConfig):
        loss = cfg.loss.model_dump(exclude={"auxiliary"})
        ignored = getattr(cfg.data, "ignore_index", None)
        of_masks = {"mode": cfg.data.mode, "metrics": cfg.metrics.model_dump(), "ignore_index": ignored}
    task = TASKS[cfg.data.task](
        model,
        num_classes=cfg.data.num_classes,
        optimizer=cfg.optimizer.model_dump(exclude={"lr_scaling"}) | dict(rates),
        scheduler=_schedule(cfg),
        loss=loss,
        auxiliary=cfg.loss.auxiliary,
        penalty=cfg.penalty.model_dump(),
        mixup=cfg.mixup.model_dump(),
        config=to_primitive(cfg),
        channels_last=cfg.trainer.channels_last,
        compile=cfg.trainer.compile,
        **of_masks,
    )
    # Lightning converts a network after it has loaded a checkpoint, whose float64 weights would be rounded.
    return task.double() if cfg.trainer.precision == "64-true" else task


def _schedule(cfg: TrainConfig) -> dict[str, Any]:
    watched = {"monitor": cfg.monitor, "mode": cfg.monitor_mode} if cfg.scheduler.name == "plateau" else {}
    return {**cfg.scheduler.model_dump(), **watched}


def trainer_of(cfg: TrainConfig) -> pl.Trainer:
    """The trainer with its callbacks and loggers."""
    ours = {"channels_last", "compile", "matmul_precision", "global_batch_size"}
    require_accelerator(cfg)
    options = cfg.trainer.model_dump(exclude=ours)
    options["accumulate_grad_batches"] = cfg.trainer.accumulate_grad_batches or 1
    options["precision"] = usable_precision(cfg.trainer.precision, cfg.trainer.accelerator)
    if cfg.trainer.strategy == "fsdp":
        options["strategy"] = Sharded()
    if cfg.trainer.profiler is not None:
        options["profiler"] = PROFILERS[cfg.trainer.profiler](dirpath=cfg.run.dir, filename="profile")
    problems: list[Problem] = []
    callbacks: list[Callback] = built_section("callbacks", cfg.callbacks, Callback, problems)
    loggers = built_section("logger", cfg.logger, Logger, problems)
    if problems:
        raise ConfigError(problems)
    if not cfg.trainer.enable_progress_bar:
        callbacks = [c for c in callbacks if not isinstance(c, AnyProgressBar)]
    callbacks = [*fault_counter(cfg, None if is_dry(cfg) else Path(cfg.run.dir)), *callbacks]
    if cfg.ema is not None:
        callbacks.append(EMAWeights(**cfg.ema.model_dump()))
    with blaming(cfg, "trainer.accelerator", "trainer.devices", "trainer.strategy", "trainer.precision"):
        trainer = pl.Trainer(
            **options,
            callbacks=callbacks,
            logger=loggers or False,
            default_root_dir=cfg.run.dir,
            plugins=[SyncNorm()] if cfg.trainer.sync_batchnorm else None,
            use_distributed_sampler=False,  # the datamodule's samplers know the ranks
            enable_checkpointing=any(isinstance(c, Checkpoint) for c in callbacks),
            enable_model_summary=False,
        )
    return listens_alone(trainer)


def require_accelerator(cfg: TrainConfig) -> None:
    """Check that the chosen kind of device is there.

    Raises:
        ConfigError: If it is not.
    """
    name = cfg.trainer.accelerator
    if name == "gpu":
        why = "" if torch.accelerator.is_available() else "torch finds no GPU here"
    elif name in AcceleratorRegistry:
        there = AcceleratorRegistry[name]["accelerator"].is_available()
        why = "" if there else f"there is no {name} device here"
    else:
        why = (
            ""
            if name == "auto"
            else f"Lightning has no such kind here, only {', '.join(AcceleratorRegistry)}"
        )
    if why:
        fix = "take trainer=cpu, or a machine with one"
        raise ConfigError([conflict(cfg, ["trainer.accelerator"], why, fix)])


def fault_counter(cfg: TrainConfig, folder: Path | None) -> list[DataFaults]:
    """What counts the samples that are skipped, and lists them in this folder; nothing if none may be."""
    if cfg.data.faults == "raise":
        return []
    path = None if folder is None else folder / "data_faults.csv"
    return [DataFaults(path, cfg.data.max_faults)]


def usable_precision(precision: str, accelerator: str) -> Any:
    """`precision`, or 32-true where a mixed format would run on a CPU, which it only slows down."""
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not torch.accelerator.is_available())
    return "32-true" if on_cpu and precision.endswith("-mixed") else precision


def is_dry(cfg: TrainConfig) -> bool:
    """Whether the run is a trial that writes nothing."""
    return bool(cfg.trainer.fast_dev_run)
