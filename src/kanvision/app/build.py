"""Builds the objects that a run's configuration names: data, network, task, trainer."""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf
from pytorch_lightning.accelerators import AcceleratorRegistry
from pytorch_lightning.callbacks import Callback, Checkpoint
from pytorch_lightning.callbacks import ProgressBar as AnyProgressBar
from pytorch_lightning.loggers import Logger
from pytorch_lightning.profilers import AdvancedProfiler, PyTorchProfiler, SimpleProfiler
from torch import nn

from kanvision.analysis.cost import Cost, cost
from kanvision.callbacks import BadSampleCounter, EMAWeights, TrainingClock, all_gather_object
from kanvision.config import (
    ConfigError,
    TrainConfig,
    as_config_error,
    is_local_rank_zero,
    share_batch,
    to_primitive,
)
from kanvision.config.errors import Problem, is_global_rank_zero, problem_at
from kanvision.config.schema.data import MaskDataConfig
from kanvision.config.schema.models import KanifyConfig, TimmConfig
from kanvision.config.schema.transformers import TransformerConfig
from kanvision.config.targets import ALLOWED_TARGETS
from kanvision.data import ImageDataModule, build_datamodule
from kanvision.data.cores import num_cores
from kanvision.models import BUILDERS, choose_patch_size, kanify
from kanvision.spec.training import Profiler
from kanvision.tasks import Task, create_task

from . import record
from .distributed import FSDPStrategy, SyncBatchNormPlugin
from .interrupt import listens_alone
from .old_states import OldStateNames
from .teacher import attach_teacher

Built = TypeVar("Built")
ARGUMENTS = (Callback, Logger, nn.Module)
"""Classes that arguments may be, beside dataclasses."""


def built_section(
    section: str,
    entries: Mapping[str, Mapping[str, Any]],
    base: Callable[..., Built],
    problems: list[Problem],
) -> list[Built]:
    """Return the objects of a section of the configuration, in order, without those that cannot be built.

    Args:
        section: Dotted key of the section.
        entries: `_target_` and arguments of each object, by its name in the section.
        base: Class that the objects must have.
        problems: Gets one more for each object that cannot be built.
    """
    found = []
    for name, entry in entries.items():
        try:
            found.append(built(entry, base))
        except Exception as error:  # libraries raise TypeError, AssertionError, RuntimeError and more
            key = f"{section}.{name}"
            given = f"{key}._target_={entry.get('_target_')}"
            problems.append(Problem((key,), (given,), _reason(error), _arguments(entry, error)))
    return found


def _reason(error: Exception) -> str:
    """Return the message of the class itself, where Hydra has wrapped it."""
    cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
    return str(cause) or repr(cause)


def _arguments(entry: Mapping[str, Any], error: Exception) -> str:
    """Return the arguments that the class takes, if the error is that it was given others."""
    if not isinstance(error.__cause__, TypeError):
        return ""
    names = inspect.signature(get_object(str(entry["_target_"]))).parameters
    return f"its arguments: {', '.join(names)}"


def built(entry: Mapping[str, Any], base: Callable[..., Built]) -> Built:
    """The object.

    The name alone says little: `torch.os.system` and `kanvision.app.record.subprocess.Popen` begin as they
    should. So each `_target_`, those of arguments included, must be a class that was defined in a known
    package, never a function; the outermost one must be a `base`, and arguments are callbacks, loggers,
    modules or dataclasses: a package as large as torch has classes that start programs.

    References to variables of the environment are filled in here and nowhere before.

    Args:
        entry: `_target_` and its arguments.
        base: The class that is wanted.

    Raises:
        ValueError: If something else is named.
    """
    assert isinstance(base, type)
    filled: Any = OmegaConf.to_container(OmegaConf.create(dict(entry)), resolve=True)
    if unfilled := [text for text in _texts(filled) if "${" in text]:
        raise ValueError(f"{unfilled[0]} would be looked up twice; legal: the value itself")
    outermost, *inner = _targets(filled)
    _require_class(outermost, (base,))
    for target in inner:
        _require_class(target, ARGUMENTS)
    found: Built = instantiate(_with_numbers(filled), _convert_="all")
    return found


def _with_numbers(node: Any) -> Any:
    """Return arguments with numbers as keys where all keys are whole numbers: configurations have texts."""
    if isinstance(node, list):
        return [_with_numbers(value) for value in node]
    if not isinstance(node, Mapping):
        return node
    numbers = all(str(key).isdigit() for key in node)
    return {int(key) if numbers else key: _with_numbers(value) for key, value in node.items()}


def _targets(node: Any) -> Iterator[str]:
    """All `_target_`s, the outermost one first."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield str(node["_target_"])
        for value in node.values():
            yield from _targets(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _targets(value)


def _texts(node: Any) -> Iterator[str]:
    """All texts."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping | list | tuple):
        for value in node.values() if isinstance(node, Mapping) else node:
            yield from _texts(value)


def _require_class(target: str, bases: tuple[type, ...]) -> None:
    if not target.startswith(ALLOWED_TARGETS):
        raise ValueError(f"_target_={target}; legal beginnings: {', '.join(ALLOWED_TARGETS)}")
    found: Any = get_object(target)
    home = getattr(found, "__module__", None) or ""
    if not isinstance(found, type) or not f"{home}.".startswith(ALLOWED_TARGETS):
        what = "a class" if isinstance(found, type) else f"no class but a {type(found).__name__}"
        raise ValueError(
            f"_target_={target} is {what} of {home or 'no package'}; legal are classes of "
            f"{', '.join(name.rstrip('.') for name in ALLOWED_TARGETS)}"
        )
    if not issubclass(found, bases) and not (bases is ARGUMENTS and dataclasses.is_dataclass(found)):
        names = " or ".join(base.__name__ for base in bases)
        raise ValueError(f"_target_={target} is no {names}, and nothing else is legal here")


PROFILERS: dict[Profiler, type[PyTorchProfiler | SimpleProfiler | AdvancedProfiler]] = {
    "simple": SimpleProfiler,
    "advanced": AdvancedProfiler,
    "pytorch": PyTorchProfiler,
}


def prepare(cfg: TrainConfig) -> None:
    """Settings of the whole process."""
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    torch.set_float32_matmul_precision(cfg.trainer.matmul_precision)
    record.silence_libraries()
    if not is_global_rank_zero():
        warnings.simplefilter("ignore")  # the first one says the same


def create_datamodule(cfg: TrainConfig, known_classes: Sequence[str] = ()) -> ImageDataModule:
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


def setup_datamodule(cfg: TrainConfig, known_classes: Sequence[str] = ()) -> ImageDataModule:
    """The data, found and judged (see `DataError`), ready to give batches; a collective call.

    One process of each machine fetches them if they are missing, and the others wait for that.

    Args:
        cfg: Describes them.
        known_classes: Names of the classes of a trained network that labels have to mean; empty: any.
    """
    datamodule = create_datamodule(cfg, known_classes)
    if is_local_rank_zero():
        datamodule.prepare_data()
    all_gather_object(None)
    datamodule.setup()
    return datamodule


def fill_data_facts(cfg: TrainConfig, datamodule: ImageDataModule) -> TrainConfig:
    """The configuration with what the data turned out to have: number of classes, mean, std, palette."""
    count, spec = {"num_classes": datamodule.num_classes}, datamodule.spec
    facts: dict[str, Any] = {**count, "mean": list(spec.mean), "std": list(spec.std)}
    if (palette := getattr(datamodule.reader, "palette", None)) is not None:
        facts["palette"] = dict(palette.given)  # a checkpoint may be used where the file is not
    data, model = cfg.data.model_copy(update=facts), cfg.model.model_copy(update=count)
    return cfg.model_copy(update={"data": data, "model": model})


def build_model(cfg: TrainConfig) -> nn.Module:
    """The network with fresh weights, joined with that of its teacher if it has one."""
    arguments = cfg.model.arguments()
    if cfg.model.takes_basis:
        arguments |= {"basis": cfg.basis.name, "basis_kwargs": cfg.basis.arguments()}
    given = {"model.kwargs": cfg.model.kwargs, "basis.name": cfg.model.takes_basis}
    with as_config_error(cfg, "model.name", *(key for key, is_given in given.items() if is_given)):
        if isinstance(cfg.model, TransformerConfig):
            arguments.setdefault("patch_size", choose_patch_size(cfg.model.img_size))
        model = BUILDERS[cfg.model.kind](cfg.model.name, **arguments)
    changes = cfg.model.kanify if isinstance(cfg.model, TimmConfig) and not cfg.model.plain else None
    if changes is not None and (changes.mlp or changes.attention or changes.conv):
        changed = [f"model.kanify.{key}" for key, value in changes if value != getattr(KanifyConfig(), key)]
        with as_config_error(cfg, "model.name", *changed):
            kanify(model, **changes.model_dump())
    return attach_teacher(cfg, model, build_model)


def measure_cost(cfg: TrainConfig, model: nn.Module) -> Cost:
    """Cost of one image; its forward pass is the first that the model sees of the data's size."""
    with as_config_error(cfg, "model.name", "data.in_chans", "data.img_size"):
        return cost(model, (cfg.data.in_chans, cfg.data.img_size, cfg.data.img_size))


def build_task(cfg: TrainConfig, model: nn.Module, rates: Mapping[str, float | None]) -> Task:
    """The task of the data around `model`; `rates` replaces learning rates of the configuration."""
    assert cfg.data.num_classes is not None
    loss = cfg.loss.model_dump(include={"name", "label_smoothing"})
    of_masks: dict[str, Any] = {}
    if isinstance(cfg.data, MaskDataConfig):
        loss = cfg.loss.model_dump(exclude={"auxiliary"})
        ignored = getattr(cfg.data, "ignore_index", None)
        of_masks = {"mode": cfg.data.mode, "metrics": cfg.metrics.model_dump(), "ignore_index": ignored}
    task = create_task(
        cfg.data.task,
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


def build_trainer(cfg: TrainConfig) -> pl.Trainer:
    """The trainer with its callbacks and loggers."""
    ours = {"channels_last", "compile", "matmul_precision", "global_batch_size"}
    require_accelerator(cfg)
    options = cfg.trainer.model_dump(exclude=ours)
    options["accumulate_grad_batches"] = cfg.trainer.accumulate_grad_batches or 1
    options["precision"] = resolve_precision(cfg.trainer.precision, cfg.trainer.accelerator)
    if cfg.trainer.strategy == "fsdp":
        options["strategy"] = FSDPStrategy()
    if cfg.trainer.profiler is not None:
        options["profiler"] = PROFILERS[cfg.trainer.profiler](dirpath=cfg.run.dir, filename="profile")
    problems: list[Problem] = []
    callbacks: list[Callback] = built_section("callbacks", cfg.callbacks, Callback, problems)
    loggers = built_section("logger", cfg.logger, Logger, problems)
    if problems:
        raise ConfigError(problems)
    if not cfg.trainer.enable_progress_bar:
        callbacks = [c for c in callbacks if not isinstance(c, AnyProgressBar)]
    counters = build_bad_sample_counter(cfg, None if is_dry_run(cfg) else Path(cfg.run.dir))
    callbacks = [OldStateNames(), *counters, *callbacks, TrainingClock()]
    if cfg.ema is not None:
        callbacks.append(EMAWeights(**cfg.ema.model_dump()))
    with as_config_error(
        cfg, "trainer.accelerator", "trainer.devices", "trainer.strategy", "trainer.precision"
    ):
        trainer = pl.Trainer(
            **options,
            callbacks=callbacks,
            logger=loggers or False,
            default_root_dir=cfg.run.dir,
            plugins=[SyncBatchNormPlugin()] if cfg.trainer.sync_batchnorm else None,
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
        raise ConfigError([problem_at(cfg, ["trainer.accelerator"], why, fix)])


def build_bad_sample_counter(cfg: TrainConfig, folder: Path | None) -> list[BadSampleCounter]:
    """What counts the samples that are skipped, and lists them in this folder; nothing if none may be."""
    if cfg.data.on_bad_sample == "raise":
        return []
    path = None if folder is None else folder / "bad_samples.csv"
    return [BadSampleCounter(path, cfg.data.max_bad_samples)]


def resolve_precision(precision: str, accelerator: str) -> Any:
    """`precision`, or 32-true where a mixed format would run on a CPU, which it only slows down."""
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not torch.accelerator.is_available())
    return "32-true" if on_cpu and precision.endswith("-mixed") else precision


def is_dry_run(cfg: TrainConfig) -> bool:
    """Whether the run is a trial that writes nothing."""
    return bool(cfg.trainer.fast_dev_run)
