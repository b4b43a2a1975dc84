"""Builds the objects that a configuration names, and runs them."""

from __future__ import annotations

import os
import shlex
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from pytorch_lightning.callbacks import Callback, Checkpoint
from pytorch_lightning.callbacks import ProgressBar as AnyProgressBar
from pytorch_lightning.profilers import AdvancedProfiler, PyTorchProfiler, SimpleProfiler
from rich.console import Console
from torch import Tensor, nn

from . import record
from .analysis.cost import Cost, cost
from .callbacks import BestCheckpoint, EMAWeights, ProgressBar
from .checkpoints import (
    CheckpointError,
    begin_finetuning,
    find_checkpoint,
    load_checkpoint,
    match_structure,
    newest_sound_checkpoint,
    require_resumable,
    state_dict_for,
)
from .config import EvalConfig, TrainConfig, blaming, notes, to_primitive, train_config
from .config.data_schema import MaskDataConfig
from .config.model_schema import TransformerConfig
from .config.problems import is_first_process
from .data import ImageDataModule, build_datamodule
from .effort import Effort
from .layers import structure_of
from .models import BUILDERS, patch_size_for
from .optim import build_optimizer
from .tasks import TASKS, Task

__all__ = ["evaluate", "train"]

PROFILERS = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler}
WITHOUT_PUBLISHED_WEIGHTS = {"pretrained": False, "encoder_weights": None}


def train(cfg: TrainConfig) -> float | None:
    """Train, test the best checkpoint, and leave the record of the run.

    Returns:
        The best validation value of `cfg.monitor`, for sweeps; None when nothing was validated.

    Raises:
        DataError: If the data are missing or broken.
        CheckpointError: If `cfg.resume` or `cfg.finetune.init_from` is of no use.
        ConfigError: If a library refuses a setting that the schema could not judge.
    """
    _prepare(cfg)
    datamodule = _datamodule(cfg)
    cfg = _with_facts_of(cfg, datamodule)
    trainer = _trainer(cfg)
    effort = Effort.of(cfg, trainer.num_devices * trainer.num_nodes)
    folder, resume = Path(cfg.run.dir), _resume_point(cfg)
    model = _model(cfg)
    if resume is None:  # a run that goes on has its start behind it
        begin_finetuning(model, runs_root=cfg.run.root, **cfg.finetune.model_dump())
    price = _cost(cfg, model)
    task = _task(cfg, model, {"lr": effort.lr, "kan_lr": effort.kan_lr})
    with blaming(cfg, "optimizer.name"):
        build_optimizer(model, **task.optimizer_options)  # before the run writes; training builds its own
    if resume is not None:
        checkpoint = load_checkpoint(resume)
        _fitting_weights(task, checkpoint, resume)
        require_resumable(checkpoint, resume, cfg.trainer.max_epochs)
    writes = trainer.is_global_zero and not _is_dry(cfg)
    if writes:
        record.write_config(folder, to_primitive(cfg))
        record.point_latest(Path(cfg.run.root), folder)
    console = Console(quiet=not trainer.is_global_zero)
    title = f"{cfg.model.name} on {cfg.data.name}"
    record.header(console, title, _facts_before(cfg, datamodule, effort, price, trainer, resume))

    started = time.perf_counter()
    trainer.fit(task, datamodule=datamodule, ckpt_path=resume, weights_only=True)
    seconds = time.perf_counter() - started

    best = next((c for c in trainer.checkpoint_callbacks if isinstance(c, BestCheckpoint)), None)
    score = None if best is None or best.best_model_score is None else float(best.best_model_score)
    metrics: dict[str, float] = {} if score is None else {f"best_{cfg.monitor}": score}
    if cfg.test:
        path = best.best_model_path or None if best is not None else None
        if path and structure_of(task.model):  # that checkpoint may be of an epoch before a change
            task = _task(cfg, _model(cfg), {})
        results = trainer.test(task, datamodule=datamodule, ckpt_path=path, verbose=False, weights_only=True)
        metrics |= next(iter(results), {})
    price = _cost(cfg, task.model) if structure_of(task.model) else price
    facts = _facts_after(price, seconds, "training")
    if cfg.test:
        facts["tested"] = "the best checkpoint" if path else "the last weights"
    facts |= task.meaning()
    numbers = {**_size(price), "train_seconds": round(seconds, 2)}
    if writes:
        about: dict[str, Any] = {"model": cfg.model.name, "data": cfg.data.name, "seed": cfg.seed}
        about |= {"epochs": trainer.current_epoch, "resumed": resume is not None, "protocol": task.meaning()}
        record.write_metrics(folder / "metrics.json", metrics | numbers | about | record.environment())
    record.results_table(console, title, metrics, facts)
    if writes and best is not None:
        hint = f"Next: python eval.py ckpt={shlex.quote(str(folder))}"
        console.print(hint, soft_wrap=True, highlight=False)
    return score


def evaluate(cfg: EvalConfig) -> dict[str, float]:
    """Measure a checkpoint on the data that it was made for, as its own configuration tells.

    Returns:
        The metrics by their logged names.

    Raises:
        CheckpointError: If the file is none of ours, is damaged, or does not fit its own configuration.
        DataError: If the data are missing or broken.
        ConfigError: If this version does not know the checkpoint's configuration.
    """
    path = find_checkpoint(cfg.ckpt, runs_root=cfg.run_root)
    checkpoint = load_checkpoint(path)
    run = _changed(_config_of(path, checkpoint), cfg)
    _prepare(run)
    datamodule = _datamodule(run)
    model = _model(run)
    task = _task(run, model, {})
    task.model.load_state_dict(_fitting_weights(task, checkpoint, path))
    task.take_up(checkpoint["kanvision"])
    price = _cost(run, model)
    with blaming(cfg, "trainer.accelerator", "trainer.devices"):
        trainer = pl.Trainer(
            accelerator=cfg.trainer.accelerator,
            devices=cfg.trainer.devices,
            precision=_usable_precision(run.trainer.precision, cfg.trainer.accelerator),
            enable_progress_bar=cfg.trainer.enable_progress_bar,
            # Not the run's own: a checkpoint may come from anywhere, and a callback is code that it names.
            callbacks=[ProgressBar()] if cfg.trainer.enable_progress_bar else None,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
    measure = trainer.test if cfg.split == "test" else trainer.validate
    started = time.perf_counter()
    (metrics,) = measure(task, datamodule=datamodule, verbose=False)
    seconds = time.perf_counter() - started
    result = {name: float(value) for name, value in metrics.items()}
    if trainer.is_global_zero:
        console = Console()
        facts = {"checkpoint": str(path), **_facts_after(price, seconds, "evaluation"), **task.meaning()}
        record.results_table(console, f"{run.model.name} on {run.data.name}", result, facts)
        folder = Path(cfg.output) if cfg.output else _run_folder(path) / "eval"
        about = {"checkpoint": str(path), "images": datamodule.num_images[cfg.split]}
        about |= {**_size(price), "protocol": task.meaning()}
        about |= {"model": run.model.name, "data": run.data.name, "seed": run.seed}
        record.write_metrics(folder / f"{cfg.split}.json", result | about | record.environment())
        console.print(f"Written: {folder / f'{cfg.split}.json'}", soft_wrap=True, highlight=False)
    return result


# --- building


def _prepare(cfg: TrainConfig) -> None:
    """Settings of the whole process."""
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    torch.set_float32_matmul_precision(cfg.trainer.matmul_precision)
    record.keep_quiet()
    if not is_first_process():
        warnings.simplefilter("ignore")  # the first one says the same


def _datamodule(cfg: TrainConfig) -> ImageDataModule:
    facts = cfg.data.model_dump(exclude={"task"})
    # More than one a core slows loading down; what is loaded does not depend on their number.
    facts["num_workers"] = min(cfg.data.num_workers, _num_cores())
    datamodule = build_datamodule(cfg.data.task, **facts, augment=cfg.augment.model_dump(), seed=cfg.seed)
    if int(os.environ.get("LOCAL_RANK", "0")) == 0:
        datamodule.prepare_data()
    datamodule.setup()
    return datamodule


def _num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _with_facts_of(cfg: TrainConfig, datamodule: ImageDataModule) -> TrainConfig:
    """The configuration with what the data turned out to have: number of classes, mean and std."""
    count, spec = {"num_classes": datamodule.num_classes}, datamodule.spec
    facts = {**count, "mean": list(spec.mean), "std": list(spec.std)}
    data, model = cfg.data.model_copy(update=facts), cfg.model.model_copy(update=count)
    return cfg.model_copy(update={"data": data, "model": model})


def _model(cfg: TrainConfig) -> nn.Module:
    arguments = cfg.model.arguments()
    if cfg.model.takes_basis:
        arguments |= {"basis": cfg.basis.name, "basis_kwargs": cfg.basis.arguments()}
    given = {"model.kwargs": cfg.model.kwargs, "basis.name": cfg.model.takes_basis}
    with blaming(cfg, "model.name", *(key for key, is_given in given.items() if is_given)):
        if isinstance(cfg.model, TransformerConfig):
            arguments.setdefault("patch_size", patch_size_for(cfg.model.img_size))
        return BUILDERS[cfg.model.kind](cfg.model.name, **arguments)


def _cost(cfg: TrainConfig, model: nn.Module) -> Cost:
    """Cost of one image; its forward pass is the first that the model sees of the data's size."""
    with blaming(cfg, "model.name", "data.in_chans", "data.img_size"):
        return cost(model, (cfg.data.in_chans, cfg.data.img_size, cfg.data.img_size))


def _task(cfg: TrainConfig, model: nn.Module, rates: Mapping[str, float | None]) -> Task:
    assert cfg.data.num_classes is not None
    loss = cfg.loss.model_dump(include={"name", "label_smoothing"})
    of_masks: dict[str, Any] = {}
    if isinstance(cfg.data, MaskDataConfig):
        loss = cfg.loss.model_dump(exclude={"auxiliary"})
        of_masks = {"mode": cfg.data.mode, "metrics": cfg.metrics.model_dump()}
    return TASKS[cfg.data.task](
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


def _schedule(cfg: TrainConfig) -> dict[str, Any]:
    watched = {"monitor": cfg.monitor, "mode": cfg.monitor_mode} if cfg.scheduler.name == "plateau" else {}
    return {**cfg.scheduler.model_dump(), **watched}


def _trainer(cfg: TrainConfig) -> pl.Trainer:
    options = cfg.trainer.model_dump(exclude={"channels_last", "compile", "matmul_precision"})
    options["precision"] = _usable_precision(cfg.trainer.precision, cfg.trainer.accelerator)
    if cfg.trainer.profiler is not None:
        options["profiler"] = PROFILERS[cfg.trainer.profiler](dirpath=cfg.run.dir, filename="profile")
    with blaming(cfg, "callbacks"):
        callbacks: list[Callback] = [instantiate(entry) for entry in cfg.callbacks.values()]
    if not cfg.trainer.enable_progress_bar:
        callbacks = [c for c in callbacks if not isinstance(c, AnyProgressBar)]
    if cfg.ema is not None:
        callbacks.append(EMAWeights(**cfg.ema.model_dump()))
    with blaming(cfg, "logger"):
        loggers = [instantiate(entry) for entry in cfg.logger.values()]
    with blaming(cfg, "trainer.accelerator", "trainer.devices", "trainer.strategy", "trainer.precision"):
        return pl.Trainer(
            **options,
            callbacks=callbacks,
            logger=loggers or False,
            default_root_dir=cfg.run.dir,
            use_distributed_sampler=False,  # the datamodule's samplers know the ranks
            enable_checkpointing=any(isinstance(c, Checkpoint) for c in callbacks),
            enable_model_summary=False,
        )


def _usable_precision(precision: str, accelerator: str) -> Any:
    """`precision`, or 32-true where a mixed format would run on a CPU, which it only slows down."""
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not torch.accelerator.is_available())
    return "32-true" if on_cpu and precision.endswith("-mixed") else precision


def _is_dry(cfg: TrainConfig) -> bool:
    return bool(cfg.trainer.fast_dev_run)


# --- checkpoints


def _resume_point(cfg: TrainConfig) -> str | None:
    """The checkpoint to go on from; None for a fresh start."""
    if cfg.resume is None:
        return None
    if cfg.resume == "auto" or Path(cfg.resume).is_dir():
        folder = Path(cfg.run.dir if cfg.resume == "auto" else cfg.resume)
        found = newest_sound_checkpoint(folder) if folder.is_dir() else None
        if found is None and cfg.resume != "auto":
            raise CheckpointError(f"resume={cfg.resume}: no checkpoint that can be loaded in this folder")
        return None if found is None else str(found)
    return str(find_checkpoint(cfg.resume))


def _fitting_weights(task: Task, checkpoint: Mapping[str, Any], path: str | Path) -> dict[str, Tensor]:
    """The checkpoint's weights under the network's own names; the network gets its structure."""
    try:
        match_structure(task.model, checkpoint)
        return state_dict_for(task.model, checkpoint)
    except CheckpointError as error:
        assert task.config is not None
        raise CheckpointError(f"{path} does not fit {task.config['model']['name']}: {error}") from None


def _config_of(path: Path, checkpoint: Mapping[str, Any]) -> TrainConfig:
    """The configuration of the run that wrote a checkpoint."""
    config = (checkpoint.get("kanvision") or {}).get("config")
    if config is None:
        raise CheckpointError(
            f"{path} carries no configuration, so train.py did not write it; "
            "eval.py evaluates checkpoints of train.py"
        )
    return train_config(config)


def _changed(run: TrainConfig, cfg: EvalConfig) -> TrainConfig:
    """A run's configuration with what the evaluation asks to be different."""
    data = run.data.model_copy(update=cfg.data.model_dump(exclude_none=True))
    if cfg.data.batch_size is not None:
        data = data.model_copy(update={"eval_batch_size": cfg.data.batch_size})
    precision = {} if cfg.trainer.precision is None else {"precision": cfg.trainer.precision}
    # One pass over the images seldom pays for compiling.
    trainer = run.trainer.model_copy(update={"compile": False, **precision})
    # The weights are in the checkpoint; published ones need not be fetched again.
    unloaded = {key: value for key, value in WITHOUT_PUBLISHED_WEIGHTS.items() if hasattr(run.model, key)}
    model = run.model.model_copy(update=unloaded)
    return run.model_copy(update={"data": data, "trainer": trainer, "model": model})


def _run_folder(path: Path) -> Path:
    """The run that a checkpoint lies in, or the checkpoint's own folder."""
    return path.parent.parent if path.parent.name == "checkpoints" else path.parent


# --- showing


def _facts_before(
    cfg: TrainConfig,
    datamodule: ImageDataModule,
    effort: Effort,
    price: Cost,
    trainer: pl.Trainer,
    resume: str | None,
) -> dict[str, str]:
    facts = {
        "run": "a trial, nothing is written" if _is_dry(cfg) else cfg.run.dir,
        "recipe": f"{cfg.recipe.name} ({cfg.recipe.source})",
        "images": ", ".join(f"{split} {count:,}" for split, count in datamodule.num_images.items()),
        "training": str(effort),
        "model": f"{price.parameters:,} parameters, {_gflops(price)} GFLOP an image",
        "precision": str(trainer.precision),
    }
    if trainer.precision != cfg.trainer.precision:
        facts["precision"] += f" ({cfg.trainer.precision} would only slow a CPU down)"
    if cfg.resume is not None:
        facts["resume"] = resume or f"no unfinished run in {Path(cfg.run.dir).parent}; a fresh start"
    return facts | {f"note {number}": text for number, text in enumerate(notes(cfg), 1)}


def _facts_after(price: Cost, seconds: float, what: str) -> dict[str, str]:
    return {
        "parameters": f"{price.parameters:,}",
        "GFLOP / image": _gflops(price),
        f"{what} time": f"{seconds:.1f} s",
    }


def _size(price: Cost) -> dict[str, int]:
    return {"parameters": price.parameters, "flops": price.flops, "basis_flops": price.basis_flops}


def _gflops(price: Cost) -> str:
    functions = f" + {price.basis_flops / 1e9:.2g} for functions" if price.basis_flops else ""
    return f"{price.flops / 1e9:.4g}{functions}"
