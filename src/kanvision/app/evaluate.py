"""`eval.py mode=test`: measure a checkpoint on the data that it was made for."""

from __future__ import annotations

import time

import pytorch_lightning as pl

from kanvision.callbacks import ProgressBar
from kanvision.config import EvalConfig, as_config_error
from kanvision.console import build_console

from . import record
from .build import build_bad_sample_counter, measure_cost, resolve_precision, setup_datamodule
from .evaluation_results import classes_found, classes_recorded, results_folder
from .interrupt import listens_alone
from .restore import restore
from .summary import model_size, record_bad_samples, result_summary, summarize_bad_samples


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
    datamodule = setup_datamodule(run, task.class_names)
    price = measure_cost(run, task.model)
    folder = results_folder(cfg, path, task.config, "eval")
    bars = [ProgressBar()] if cfg.trainer.enable_progress_bar else []
    with as_config_error(cfg, "trainer.accelerator", "trainer.devices"):
        trainer = pl.Trainer(
            accelerator=cfg.trainer.accelerator,
            devices=cfg.trainer.devices,
            precision=resolve_precision(run.trainer.precision, cfg.trainer.accelerator),
            enable_progress_bar=cfg.trainer.enable_progress_bar,
            # Not the run's own: a checkpoint may come from anywhere, and a callback is code that it names.
            callbacks=[*build_bad_sample_counter(run, folder), *bars],
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
        facts = {
            "checkpoint": str(path),
            **result_summary(price, seconds, "evaluation"),
            **task.metric_notes(),
        }
        facts |= classes_found(task, datamodule) | summarize_bad_samples(trainer)
        record.results_table(console, f"{run.model.name} on {run.data.name}", result, facts)
        about = {"checkpoint": str(path), "images": datamodule.num_images[cfg.split]}
        about |= classes_recorded(task, datamodule) | record_bad_samples(trainer)
        about |= {**model_size(price), "protocol": task.metric_notes()}
        about |= {"model": run.model.name, "data": run.data.name, "root": run.data.root, "seed": run.seed}
        record.write_metrics(folder / f"{cfg.split}.json", result | about | record.environment())
        console.print(f"Written: {folder / f'{cfg.split}.json'}", soft_wrap=True)
    return result
