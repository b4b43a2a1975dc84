"""`eval.py mode=test`: measure a checkpoint on the data that it was made for."""

from __future__ import annotations

import time
from pathlib import Path

import pytorch_lightning as pl

from kanvision import record
from kanvision.callbacks import ProgressBar
from kanvision.config import EvalConfig, blaming
from kanvision.console import build_console

from .building import cost_of, datamodule_of, fault_counter, usable_precision
from .facts import facts_after, faults_found, faults_recorded, size_of
from .restoring import restore, run_folder
from .stopping import listens_alone


def evaluate(cfg: EvalConfig) -> dict[str, float]:
    """Measure a checkpoint on the data that it was made for, as its own configuration tells.

    Returns:
        The metrics by their logged names.

    Raises:
        CheckpointError: If the file is none of ours, is damaged, or does not fit its own configuration.
        DataError: If the data are missing or broken.
        ConfigError: If this version does not know the checkpoint's configuration.
    """
    path, run, task = restore(cfg)
    datamodule = datamodule_of(run)
    price = cost_of(run, task.model)
    folder = Path(cfg.output) if cfg.output else run_folder(path) / "eval"
    bars = [ProgressBar()] if cfg.trainer.enable_progress_bar else []
    with blaming(cfg, "trainer.accelerator", "trainer.devices"):
        trainer = pl.Trainer(
            accelerator=cfg.trainer.accelerator,
            devices=cfg.trainer.devices,
            precision=usable_precision(run.trainer.precision, cfg.trainer.accelerator),
            enable_progress_bar=cfg.trainer.enable_progress_bar,
            # Not the run's own: a checkpoint may come from anywhere, and a callback is code that it names.
            callbacks=[*fault_counter(run, folder), *bars],
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
    listens_alone(trainer)
    measure = trainer.test if cfg.split == "test" else trainer.validate
    started = time.perf_counter()
    (metrics,) = measure(task, datamodule=datamodule, verbose=False)
    seconds = time.perf_counter() - started
    result = {name: float(value) for name, value in metrics.items()}
    if trainer.is_global_zero:
        console = build_console()
        facts = {"checkpoint": str(path), **facts_after(price, seconds, "evaluation"), **task.meaning()}
        facts |= faults_found(trainer)
        record.results_table(console, f"{run.model.name} on {run.data.name}", result, facts)
        about = {"checkpoint": str(path), "images": datamodule.num_images[cfg.split]}
        about |= faults_recorded(trainer)
        about |= {**size_of(price), "protocol": task.meaning()}
        about |= {"model": run.model.name, "data": run.data.name, "seed": run.seed}
        record.write_metrics(folder / f"{cfg.split}.json", result | about | record.environment())
        console.print(f"Written: {folder / f'{cfg.split}.json'}", soft_wrap=True)
    return result
