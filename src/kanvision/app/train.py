"""`train.py`: train, test, and leave the record of the run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from kanvision.callbacks import BestCheckpoint
from kanvision.checkpoints import (
    CheckpointError,
    Start,
    begin_finetuning,
    require_same_classes,
)
from kanvision.config import TrainConfig, as_config_error, shell_word, to_primitive
from kanvision.config.schema.transformers import KATConfig
from kanvision.console import build_console
from kanvision.layers import structure_changes
from kanvision.optim import build_optimizer

from . import record
from .build import (
    build_model,
    build_task,
    build_trainer,
    fill_data_facts,
    is_dry_run,
    measure_cost,
    prepare,
    setup_datamodule,
)
from .distributed import check_same_on_all_ranks, init_process_group
from .effective_batch import EffectiveBatch, clamp_warmup, split_global_batch
from .interrupt import told_how_to_go_on
from .restore import matching_state_dict
from .resume import ResumePoint, find_resume_point
from .summary import (
    model_size,
    record_bad_samples,
    result_summary,
    run_summary,
    summarize_bad_samples,
    train_seconds,
)
from .teacher import load_teacher, resolve_teacher


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
    trainer = build_trainer(cfg)
    init_process_group(trainer)
    resume = find_resume_point(cfg)
    check_same_on_all_ranks(cfg, resume)
    cfg, warmup = clamp_warmup(split_global_batch(cfg, trainer.world_size))
    trainer.accumulate_grad_batches = cfg.trainer.accumulate_grad_batches or 1
    point = None if resume is None else ResumePoint(resume, cfg)
    if point is not None:
        point.check_settings(cfg)  # before the data are read
    datamodule = setup_datamodule(cfg)
    cfg = fill_data_facts(cfg, datamodule)
    effort = EffectiveBatch.of(cfg, trainer.world_size)
    folder = Path(cfg.run.dir)
    cfg = resolve_teacher(cfg, resume)
    model = build_model(cfg)
    # a run that goes on has its start behind it
    start = _start(cfg, model, datamodule.class_names) if resume is None else None
    price = measure_cost(cfg, model)
    task = build_task(cfg, model, {"lr": effort.lr, "kan_lr": effort.kan_lr})
    task.class_names = datamodule.class_names
    with as_config_error(cfg, "optimizer.name"):
        build_optimizer(model, **task.optimizer_options)  # before the run writes; training builds its own
    changes: list[str] = []
    if point is not None:
        require_same_classes(point.checkpoint, point.path, datamodule.class_names)
        changes = point.check_settings(cfg) + point.check_data(datamodule, trainer.world_size)
        matching_state_dict(task, point.checkpoint, point.path)
    writes = trainer.is_global_zero and not is_dry_run(cfg)
    if writes:
        record.write_config(folder, to_primitive(cfg))
        record.update_latest_link(Path(cfg.run.root), folder)
    console = build_console(quiet=not trainer.is_global_zero)
    title = f"{cfg.model.name} on {cfg.data.name}"
    facts = run_summary(cfg, datamodule, effort, price, trainer, point, start, changes)
    record.header(console, title, facts | ({"warm-up": warmup} if warmup else {}))

    with told_how_to_go_on(trainer, folder, "training"):
        trainer.fit(task, datamodule=datamodule, ckpt_path=resume, weights_only=True)
    seconds = train_seconds(trainer)

    best = next((c for c in trainer.checkpoint_callbacks if isinstance(c, BestCheckpoint)), None)
    score = None if best is None or best.best_model_score is None else float(best.best_model_score)
    metrics: dict[str, float] = {} if score is None else {f"best_{cfg.monitor}": score}
    if cfg.test:
        path = best.best_model_path or None if best is not None else None
        if path and structure_changes(task.model):  # that checkpoint may be of an epoch before a change
            task = build_task(cfg, build_model(cfg), {})
        with told_how_to_go_on(trainer, folder, "test"):
            results = trainer.test(
                task, datamodule=datamodule, ckpt_path=path, verbose=False, weights_only=True
            )
        metrics |= next(iter(results), {})
    price = measure_cost(cfg, task.model) if structure_changes(task.model) else price
    facts = result_summary(price, seconds, "training")
    if cfg.test:
        facts["tested"] = "the best checkpoint" if path else "the last weights"
    facts |= task.metric_notes() | summarize_bad_samples(trainer)
    numbers = {**model_size(price), "train_seconds": round(seconds, 2)}
    if writes:
        about: dict[str, Any] = {"model": cfg.model.name, "data": cfg.data.name, "seed": cfg.seed}
        about |= {
            "epochs": trainer.current_epoch,
            "resumed": resume is not None,
            "protocol": task.metric_notes(),
        }
        about |= record_bad_samples(trainer)
        record.write_metrics(folder / "metrics.json", metrics | numbers | about | record.environment())
    record.results_table(console, title, metrics, facts)
    if writes and best is not None:
        console.print(f"Next: python eval.py {shell_word('ckpt', str(folder))}", soft_wrap=True)
    return score


def _start(cfg: TrainConfig, model: nn.Module, class_names: Sequence[str]) -> Start:
    """Give a network that was just built the weights that the configuration names."""
    if isinstance(cfg.model, KATConfig) and cfg.model.init_from is not None:
        from kanvision.checkpoints import start_from_vit  # published weights are for few runs

        try:
            start_from_vit(model, cfg.model.init_from, cfg.model.init_from_mode)
        except CheckpointError as error:
            raise CheckpointError(f"model.init_from={cfg.model.init_from}: {error}") from None
    load_teacher(cfg, model)
    options = cfg.finetune.model_dump()
    return begin_finetuning(model, class_names=class_names, runs_root=cfg.run.root, **options)
