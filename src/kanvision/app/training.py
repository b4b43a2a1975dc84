"""`train.py`: train, test, and leave the record of the run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from kanvision import record
from kanvision.callbacks import BestCheckpoint
from kanvision.checkpoints import (
    CheckpointError,
    Start,
    begin_finetuning,
    require_same_classes,
    start_from_vit,
)
from kanvision.config import TrainConfig, blaming, shell_word, to_primitive
from kanvision.config.transformer_schema import KATConfig
from kanvision.console import build_console
from kanvision.effort import Effort, clamp_warmup, shared_out
from kanvision.layers import structure_of
from kanvision.optim import build_optimizer

from .building import cost_of, datamodule_of, is_dry, model_of, prepare, task_of, trainer_of, with_facts_of
from .facts import facts_after, facts_before, faults_found, faults_recorded, size_of
from .joining import join, require_same
from .restoring import fitting_weights
from .resuming import ResumePoint, find_resume_point
from .stopping import told_how_to_go_on
from .teaching import load_teacher, with_teacher


def train(cfg: TrainConfig) -> float | None:
    """Train, test the best checkpoint, and leave the record of the run.

    Returns:
        The best validation value of `cfg.monitor`, for sweeps; None when nothing was validated.

    Raises:
        DataError: If the data are missing or broken.
        CheckpointError: If `cfg.resume`, `cfg.finetune.init_from`, `cfg.model.init_from` or
            `cfg.model.teacher` is of no use.
        ConfigError: If a library refuses a setting that the schema could not judge.
    """
    prepare(cfg)
    trainer = trainer_of(cfg)
    join(trainer)
    resume = find_resume_point(cfg)
    require_same(cfg, resume)
    cfg, warmup = clamp_warmup(shared_out(cfg, trainer.world_size))
    trainer.accumulate_grad_batches = cfg.trainer.accumulate_grad_batches or 1
    point = None if resume is None else ResumePoint(resume, cfg)
    if point is not None:
        point.check_settings(cfg)  # before the data are read
    datamodule = datamodule_of(cfg)
    cfg = with_facts_of(cfg, datamodule)
    effort = Effort.of(cfg, trainer.world_size)
    folder = Path(cfg.run.dir)
    cfg = with_teacher(cfg, resume)
    model = model_of(cfg)
    # a run that goes on has its start behind it
    start = _start(cfg, model, datamodule.class_names) if resume is None else None
    price = cost_of(cfg, model)
    task = task_of(cfg, model, {"lr": effort.lr, "kan_lr": effort.kan_lr})
    task.class_names = datamodule.class_names
    with blaming(cfg, "optimizer.name"):
        build_optimizer(model, **task.optimizer_options)  # before the run writes; training builds its own
    changes: list[str] = []
    if point is not None:
        require_same_classes(point.checkpoint, point.path, datamodule.class_names)
        changes = point.check_settings(cfg) + point.check_data(datamodule, trainer.world_size)
        fitting_weights(task, point.checkpoint, point.path)
    writes = trainer.is_global_zero and not is_dry(cfg)
    if writes:
        record.write_config(folder, to_primitive(cfg))
        record.point_latest(Path(cfg.run.root), folder)
    console = build_console(quiet=not trainer.is_global_zero)
    title = f"{cfg.model.name} on {cfg.data.name}"
    facts = facts_before(cfg, datamodule, effort, price, trainer, point, start, changes)
    record.header(console, title, facts | ({"warm-up": warmup} if warmup else {}))

    started = time.perf_counter()
    with told_how_to_go_on(trainer, folder, "training"):
        trainer.fit(task, datamodule=datamodule, ckpt_path=resume, weights_only=True)
    seconds = time.perf_counter() - started

    best = next((c for c in trainer.checkpoint_callbacks if isinstance(c, BestCheckpoint)), None)
    score = None if best is None or best.best_model_score is None else float(best.best_model_score)
    metrics: dict[str, float] = {} if score is None else {f"best_{cfg.monitor}": score}
    if cfg.test:
        path = best.best_model_path or None if best is not None else None
        if path and structure_of(task.model):  # that checkpoint may be of an epoch before a change
            task = task_of(cfg, model_of(cfg), {})
        with told_how_to_go_on(trainer, folder, "test"):
            results = trainer.test(
                task, datamodule=datamodule, ckpt_path=path, verbose=False, weights_only=True
            )
        metrics |= next(iter(results), {})
    price = cost_of(cfg, task.model) if structure_of(task.model) else price
    facts = facts_after(price, seconds, "training")
    if cfg.test:
        facts["tested"] = "the best checkpoint" if path else "the last weights"
    facts |= task.meaning() | faults_found(trainer)
    numbers = {**size_of(price), "train_seconds": round(seconds, 2)}
    if writes:
        about: dict[str, Any] = {"model": cfg.model.name, "data": cfg.data.name, "seed": cfg.seed}
        about |= {"epochs": trainer.current_epoch, "resumed": resume is not None, "protocol": task.meaning()}
        about |= faults_recorded(trainer)
        record.write_metrics(folder / "metrics.json", metrics | numbers | about | record.environment())
    record.results_table(console, title, metrics, facts)
    if writes and best is not None:
        console.print(f"Next: python eval.py {shell_word('ckpt', str(folder))}", soft_wrap=True)
    return score


def _start(cfg: TrainConfig, model: nn.Module, class_names: Sequence[str]) -> Start:
    """Give a network that was just built the weights that the configuration names."""
    if isinstance(cfg.model, KATConfig) and cfg.model.init_from is not None:
        try:
            start_from_vit(model, cfg.model.init_from, cfg.model.init_from_mode)
        except CheckpointError as error:
            raise CheckpointError(f"model.init_from={cfg.model.init_from}: {error}") from None
    load_teacher(cfg, model)
    options = cfg.finetune.model_dump()
    return begin_finetuning(model, class_names=class_names, runs_root=cfg.run.root, **options)
