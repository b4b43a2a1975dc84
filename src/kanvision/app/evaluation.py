"""`eval.py mode=test`: measure a checkpoint on the data that it was made for."""

from __future__ import annotations

import time

import pytorch_lightning as pl

from kanvision import record
from kanvision.callbacks import ProgressBar
from kanvision.config import EvalConfig, blaming
from kanvision.console import build_console

from .building import cost_of, datamodule_of, fault_counter, usable_precision
from .facts import facts_after, faults_found, faults_recorded, size_of
from .restoring import restore
from .results import classes_found, classes_recorded, results_folder
from .stopping import listens_alone


def evaluate(cfg: EvalConfig) -> dict[str, float]:
    """Measure a checkpoint on the data that it was made for, as its own configuration tells, or on others.

    Classes of other data are those of the run by their names, in any order; some of them may be missing.

    Returns:
        The metrics by their logged names.

    Raises:
        CheckpointError: If the file is none of ours, is damaged, or does not fit its own configuration.
        DataError: If the data are missing or broken, or have a class that the network does not know.
        ConfigError: If this version does not know the checkpoint's configuration.
        NonFiniteError: If the network gave no numbers for an image; nothing is recorded.
    """
    path, run, task = restore(cfg)
    datamodule = datamodule_of(run, task.class_names)
    price = cost_of(run, task.model)
    folder = results_folder(cfg, path, task.config, "eval")
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
        facts |= classes_found(task, datamodule) | faults_found(trainer)
        record.results_table(console, f"{run.model.name} on {run.data.name}", result, facts)
        about = {"checkpoint": str(path), "images": datamodule.num_images[cfg.split]}
        about |= classes_recorded(task, datamodule) | faults_recorded(trainer)
        about |= {**size_of(price), "protocol": task.meaning()}
        about |= {"model": run.model.name, "data": run.data.name, "root": run.data.root, "seed": run.seed}
        record.write_metrics(folder / f"{cfg.split}.json", result | about | record.environment())
        console.print(f"Written: {folder / f'{cfg.split}.json'}", soft_wrap=True)
    return result
