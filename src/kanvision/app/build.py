"""Construction of the objects that a run's configuration names: data, model, task, trainer."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeVar

import pytorch_lightning as pl
import torch
from pytorch_lightning.accelerators import AcceleratorRegistry
from pytorch_lightning.callbacks import Callback, Checkpoint, DeviceStatsMonitor
from pytorch_lightning.callbacks import ProgressBar as AnyProgressBar
from pytorch_lightning.loggers import Logger
from pytorch_lightning.profilers import AdvancedProfiler, PyTorchProfiler, SimpleProfiler
from torch import nn

from kanvision.analysis.cost import Cost, cost
from kanvision.callbacks import (
    AveragedWeights,
    BadSampleCounter,
    EMAWeights,
    EpochEstimate,
    TrainingClock,
    all_gather_object,
)
from kanvision.config import (
    ConfigError,
    TrainConfig,
    as_config_error,
    is_local_rank_zero,
    share_batch,
    to_primitive,
)
from kanvision.config.errors import Problem, is_global_rank_zero
from kanvision.config.renames import rename_record
from kanvision.config.schema.data import MaskDataConfig
from kanvision.config.schema.training import TrainerConfig
from kanvision.console import silence_libraries
from kanvision.data import ImageDataModule, build_datamodule
from kanvision.data.cores import num_cores
from kanvision.losses.classification import balanced_weights
from kanvision.metrics import extra_metrics
from kanvision.spec.training import Profiler
from kanvision.tasks import Task, create_task

from .distributed import FSDPStrategy, SyncBatchNormPlugin
from .instantiate import instantiate_section
from .interrupt import disable_signal_handlers

AnyCallback = TypeVar("AnyCallback", bound=Callback)
PROFILERS: dict[Profiler, type[PyTorchProfiler | SimpleProfiler | AdvancedProfiler]] = {
    "simple": SimpleProfiler,
    "advanced": AdvancedProfiler,
    "pytorch": PyTorchProfiler,
}


def prepare_process(cfg: TrainConfig) -> None:
    """Set random seeds, the precision of matrix products, and the filters of warnings and logs."""
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    torch.set_float32_matmul_precision(cfg.trainer.matmul_precision)
    silence_libraries()
    if not is_global_rank_zero():
        warnings.simplefilter("ignore")  # rank 0 issues the same warnings


def create_datamodule(cfg: TrainConfig, known_classes: Sequence[str] = ()) -> ImageDataModule:
    """Return the datamodule that a configuration describes, without reading any file."""
    options = cfg.data.model_dump(exclude={"task"})
    if cfg.data.batch_size is None and (share := share_batch(cfg, num_processes=1)) is not None:
        options["batch_size"] = share.images
    # More than one worker per core slows loading down; samples do not depend on the number of workers.
    options["num_workers"] = min(cfg.data.num_workers, num_cores())
    return build_datamodule(
        cfg.data.task, **options, augment=cfg.augment.model_dump(), seed=cfg.seed, known_classes=known_classes
    )


def setup_datamodule(cfg: TrainConfig, known_classes: Sequence[str] = ()) -> ImageDataModule:
    """Return the datamodule with its files found and checked, ready to give batches; a collective call.

    One process of each machine downloads missing files, and the others wait for it.

    Args:
        cfg: Configuration of the run.
        known_classes: Class names of a trained model that the labels must mean; empty: any.

    Raises:
        DataError: If the data are missing or broken, or have another class.
    """
    datamodule = create_datamodule(cfg, known_classes)
    if is_local_rank_zero():
        datamodule.prepare_data()
    all_gather_object(None)
    datamodule.setup()
    return datamodule


def fill_data_facts(cfg: TrainConfig, datamodule: ImageDataModule) -> TrainConfig:
    """Return the configuration with the number of classes, mean, std and palette of the data."""
    count, spec = {"num_classes": datamodule.num_classes}, datamodule.spec
    facts: dict[str, Any] = {**count, "mean": list(spec.mean), "std": list(spec.std)}
    if (palette := getattr(datamodule.reader, "palette", None)) is not None:
        facts["palette"] = dict(palette.given)  # a checkpoint may be used where the palette's file is missing
    data, model = cfg.data.model_copy(update=facts), cfg.model.model_copy(update=count)
    return cfg.model_copy(update={"data": data, "model": model})


def measure_cost(cfg: TrainConfig, model: nn.Module) -> Cost:
    """Return the cost of one image, by the model's first forward pass on the size of the data."""
    with as_config_error(cfg, "model.name", "data.in_chans", "data.img_size"):
        return cost(model, (cfg.data.in_chans, cfg.data.img_size, cfg.data.img_size))


def build_task(
    cfg: TrainConfig,
    model: nn.Module,
    rates: Mapping[str, float | None],
    class_weights: Sequence[float] | None = None,
    compile: bool | Literal["auto"] | None = None,
) -> Task:
    """Return the task of the data around a model; `rates` replace the learning rates of `cfg`.

    `compile` is the choice for this run; None leaves `trainer.compile=auto` off.
    """
    assert cfg.data.num_classes is not None
    loss = cfg.loss.model_dump(include={"name", "label_smoothing", "kwargs"})
    loss |= {"class_weights": class_weights}
    mask_options: dict[str, Any] = {}
    if isinstance(cfg.data, MaskDataConfig):
        loss = cfg.loss.model_dump(exclude={"auxiliary", "class_weights"})
        metrics = cfg.metrics.model_dump(exclude={"extra"})
        ignored = getattr(cfg.data, "ignore_index", None)
        mask_options = {"mode": cfg.data.mode, "metrics": metrics, "ignore_index": ignored}
    task = create_task(
        cfg.data.task,
        model,
        num_classes=cfg.data.num_classes,
        optimizer=cfg.optimizer.model_dump(exclude={"lr_scaling"}) | dict(rates),
        scheduler=_scheduler_options(cfg),
        loss=loss,
        auxiliary=cfg.loss.auxiliary,
        penalty=cfg.penalty.model_dump(),
        mixup=cfg.mixup.model_dump(),
        extra_metrics=extra_metrics(cfg.metrics.extra, cfg.data.num_classes),
        config=to_primitive(cfg),
        channels_last=cfg.trainer.channels_last,
        compile=cfg.trainer.compile is True if compile is None else compile,
        **mask_options,
    )
    # Lightning converts a model after it has loaded a checkpoint, which would round float64 weights.
    return task.double() if cfg.trainer.precision == "64-true" else task


def resolve_class_weights(cfg: TrainConfig, datamodule: ImageDataModule) -> list[float] | None:
    """Return the weights of the classes in the loss, those of balanced classes by the training images.

    Raises:
        ConfigError: There is another number of weights than of classes.
    """
    weights = cfg.loss.class_weights
    if weights == "balanced":
        return balanced_weights(datamodule.datasets["train"].targets, datamodule.num_classes)
    if weights is not None and len(weights) != datamodule.num_classes:
        why = f"{len(weights)} weights for the {datamodule.num_classes} classes of the data"
        fix = f"give one for each class: {', '.join(datamodule.class_names)}"
        raise ConfigError.at(cfg, ["loss.class_weights"], why, fix)
    return weights


def _scheduler_options(cfg: TrainConfig) -> dict[str, Any]:
    monitor = {"monitor": cfg.monitor, "mode": cfg.monitor_mode} if cfg.scheduler.name == "plateau" else {}
    return {**cfg.scheduler.model_dump(), **monitor}


def build_trainer(cfg: TrainConfig) -> pl.Trainer:
    """Return the trainer with callbacks and loggers; ConfigError if a library refuses a setting."""
    own_options = {"channels_last", "compile", "matmul_precision", "global_batch_size"}
    check_accelerator(cfg)
    options = cfg.trainer.model_dump(exclude=own_options)
    options["accumulate_grad_batches"] = cfg.trainer.accumulate_grad_batches or 1
    options["precision"] = resolve_precision(cfg.trainer, cfg.trainer.accelerator)
    if cfg.trainer.strategy == "fsdp":
        options["strategy"] = FSDPStrategy()
    if cfg.trainer.profiler is not None:
        options["profiler"] = PROFILERS[cfg.trainer.profiler](dirpath=cfg.run.dir, filename="profile")
    problems: list[Problem] = []
    callbacks: list[Callback] = instantiate_section("callbacks", cfg.callbacks, Callback, problems)
    loggers = instantiate_section("logger", cfg.logger, Logger, problems)
    if problems:
        raise ConfigError(problems)
    if not cfg.trainer.enable_progress_bar:
        callbacks = [c for c in callbacks if not isinstance(c, AnyProgressBar)]
    counters = build_bad_sample_counter(cfg, None if is_dry_run(cfg) else Path(cfg.run.dir))
    callbacks = [OldStateNames(), *counters, *callbacks, TrainingClock(), EpochEstimate()]
    if cfg.ema is not None:
        callbacks.append(EMAWeights(**cfg.ema.model_dump()))
    callbacks.sort(key=lambda callback: isinstance(callback, AveragedWeights))  # the others see own weights
    with as_config_error(
        cfg, "trainer.accelerator", "trainer.devices", "trainer.strategy", "trainer.precision"
    ):
        trainer = pl.Trainer(
            **options,
            callbacks=callbacks,
            logger=loggers or False,
            default_root_dir=cfg.run.dir,
            plugins=[SyncBatchNormPlugin()] if cfg.trainer.sync_batchnorm else None,
            use_distributed_sampler=False,  # the samplers of the datamodule know the ranks
            enable_checkpointing=any(isinstance(c, Checkpoint) for c in callbacks),
            enable_model_summary=False,
        )
    check_device_stats(trainer)
    return disable_signal_handlers(trainer)


class OldStateNames(Callback):
    """Callback that renames the states of the callbacks in a checkpoint; it comes before all others.

    Lightning finds the state of a callback by its class and, for the checkpoint of the best epoch, by its
    metric.
    """

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Replace old names of classes and metrics by today's."""
        checkpoint["callbacks"] = rename_record(checkpoint["callbacks"])


def find_callbacks(trainer: pl.Trainer, kind: type[AnyCallback]) -> list[AnyCallback]:
    """Return the callbacks of a trainer that are of one class."""
    callbacks: Any = trainer
    return [callback for callback in callbacks.callbacks if isinstance(callback, kind)]


def check_device_stats(trainer: pl.Trainer) -> None:
    """Check that Lightning's `DeviceStatsMonitor`, if any, can measure and log; ConfigError if not."""
    if not (monitors := find_callbacks(trainer, DeviceStatsMonitor)):
        return
    on_cpu = trainer.strategy.root_device.type == "cpu"
    if not trainer.loggers:
        why, fix = "it writes to loggers, and the run has none", "take logger=default"
    elif any(on_cpu if c._cpu_stats is None else c._cpu_stats for c in monitors) and not find_spec("psutil"):
        why = "it measures the CPU with the package psutil, which is not installed"
        fix = "pip install psutil, or set cpu_stats: false, which measures GPUs only"
    else:
        return
    given = "callbacks: pytorch_lightning.callbacks.DeviceStatsMonitor"
    raise ConfigError([Problem(("callbacks",), (given,), why, fix)])


def check_accelerator(cfg: TrainConfig) -> None:
    """Check that a device of the configured kind is available; ConfigError if none is."""
    name = cfg.trainer.accelerator
    if name == "gpu":
        why = "" if torch.accelerator.is_available() else "torch finds no GPU here"
    elif name in AcceleratorRegistry:
        is_available = AcceleratorRegistry[name]["accelerator"].is_available()
        why = "" if is_available else f"there is no {name} device here"
    else:
        legal = ", ".join(AcceleratorRegistry)
        why = "" if name == "auto" else f"Lightning has no such kind here, only {legal}"
    if why:
        fix = "take trainer=cpu, or a machine with one"
        raise ConfigError.at(cfg, ["trainer.accelerator"], why, fix)


def build_bad_sample_counter(cfg: TrainConfig, folder: Path | None) -> list[BadSampleCounter]:
    """Return the callback that counts skipped samples and lists them in a folder; empty if none may be."""
    if cfg.data.on_bad_sample == "raise":
        return []
    path = None if folder is None else folder / "bad_samples.csv"
    return [BadSampleCounter(path, cfg.data.max_bad_samples)]


def resolve_precision(trained: TrainerConfig, accelerator: str) -> Any:
    """Return the precision of a run, or 32-true instead of a mixed one on a CPU.

    float16 slows a CPU down. bfloat16 stays where training asks for it on a CPU that has instructions for it;
    that of a recipe for GPUs does not, so that a run has the same numbers on all CPUs.

    Args:
        trained: Section `trainer` of the training.
        accelerator: Accelerator of this run.
    """
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not torch.accelerator.is_available())
    wants_bfloat16 = trained.precision == "bf16-mixed" and trained.accelerator == "cpu"
    keeps = not on_cpu or (wants_bfloat16 and has_bfloat16_instructions())
    return trained.precision if keeps or not trained.precision.endswith("-mixed") else "32-true"


@cache
def has_bfloat16_instructions() -> bool:
    """Return True if the processor multiplies matrices in bfloat16; False where that is not known."""
    try:
        flags = Path("/proc/cpuinfo").read_text("utf-8").split()
    except OSError:
        return False
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)


def is_dry_run(cfg: TrainConfig) -> bool:
    """Return True if the run writes nothing (`trainer.fast_dev_run`)."""
    return bool(cfg.trainer.fast_dev_run)
