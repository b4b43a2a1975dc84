"""Command `train.py`: train a model, test its best checkpoint, and record the results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kanvision.config import TrainConfig, experiment_choice, sweep_job_folder, to_primitive
from kanvision.console import print_header, print_results
from kanvision.layers import structure_changes

from . import run_record
from .interrupt import explain_interruption
from .run_facts import (
    describe_results,
    get_training_clock,
    model_size,
    record_bad_samples,
    record_data,
    result_summary,
    run_summary,
    summarize_bad_samples,
)
from .training_run import TrainingRun, build_run, resolve_settings


def train(cfg: TrainConfig) -> TrainingRun:
    """Train, test the best checkpoint, and record the results; return the run with its `metrics`.

    Raises:
        DataError: If the data are missing or broken.
        CheckpointError: If `cfg.resume`, `cfg.finetune.init_from`, `cfg.model.init_from` or
            `cfg.model.teacher` names no usable checkpoint.
        ConfigError: If a library refuses a setting that the schema could not check.
        RunStoppedError: If the disk is full or another process of the run is lost.
    """
    settings = resolve_settings(cfg)
    run = build_run(settings)
    write_config(run)
    run.metrics = fit(run) | test(run)
    write_results(run)
    return run


def write_config(run: TrainingRun) -> None:
    """Write the resolved configuration, and print what is known before training."""
    if run.writes_files:
        run_record.write_config(run.folder, to_primitive(run.cfg))
        run_record.update_latest_link(Path(run.cfg.run.root), run.folder)
    print_header(run.console, run.title, run_summary(run))


def fit(run: TrainingRun) -> dict[str, float]:
    """Train from the start or from the checkpoint to resume; return the best validation score, if any."""
    checkpoint = None if run.resume is None else run.resume.path
    with explain_interruption(run.trainer, run.folder, "training"):
        run.trainer.fit(run.task, datamodule=run.datamodule, ckpt_path=checkpoint, weights_only=True)
    score = None if run.best is None else run.best.best_model_score
    return {} if score is None else {f"best_{run.cfg.monitor}": float(score)}


def test(run: TrainingRun) -> dict[str, float]:
    """Test the best checkpoint, or the last weights where there is none; return the metrics."""
    if not run.cfg.test:
        return {}
    run.tested = (run.best.best_model_path or None) if run.best is not None else None
    if run.tested and structure_changes(run.task.model):  # the checkpoint may be from before a change
        run.rebuild_task()
    with explain_interruption(run.trainer, run.folder, "the test"):
        results = run.trainer.test(
            run.task, datamodule=run.datamodule, ckpt_path=run.tested, verbose=False, weights_only=True
        )
    return dict(next(iter(results), {}))


def write_results(run: TrainingRun) -> None:
    """Write `metrics.json`, and print the table of results."""
    cost, clock, notes = run.final_cost(), get_training_clock(run.trainer), run.task.metric_notes()
    if run.writes_files:
        facts: dict[str, Any] = {
            **model_size(cost),
            "train_seconds": round(clock.seconds, 2),
            "train_cpu_seconds": round(clock.cpu_seconds, 2),
            **record_data(run.datamodule),
            "model": run.cfg.model.name,
            "data": run.cfg.data.name,
            "seed": run.cfg.seed,
            "experiment": experiment_choice(),
            "peak_memory_mb": run_record.peak_memory_mb(),
            "epochs": run.trainer.current_epoch,
            "resumed": run.resume is not None,
            "protocol": notes,
            **record_bad_samples(run.trainer),
        }
        run_record.write_metrics(run.folder / "metrics.json", run.metrics | facts | run_record.environment())
    rows = result_summary(cost, clock.seconds, "training")
    if run.cfg.test:
        rows["tested"] = "the best checkpoint" if run.tested else "the last weights"
    rows |= notes | summarize_bad_samples(run.trainer)
    print_results(run.console, run.title, run.metrics, rows)
    if run.writes_files:
        is_job = sweep_job_folder() is not None  # of a sweep, whose table follows
        for line in describe_results(run):
            if not is_job or line.startswith("Next"):
                run.console.print(line, soft_wrap=True, highlight=False, markup=False)
        if run.cfg.run.keep is not None:
            for other in run_record.remove_old_runs(run.folder, run.cfg.run.keep):
                run.console.print(f"Removed by run.keep: {other}", soft_wrap=True, highlight=False)
