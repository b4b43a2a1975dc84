"""Command `eval.py mode=test`: measure a checkpoint on the data of its run or on other data."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from kanvision.analysis.html_page import write_page
from kanvision.callbacks import ImageOutputs, ImageScores, ProgressBar
from kanvision.config import EvalConfig, as_config_error
from kanvision.console import print_results

from .build import build_bad_sample_counter, measure_cost, resolve_precision
from .interrupt import disable_signal_handlers
from .restore import RestoredRun, restore
from .run_facts import model_size, record_bad_samples, result_summary, summarize_bad_samples
from .run_record import environment, write_metrics


def evaluate(cfg: EvalConfig) -> dict[str, float]:
    """Measure a checkpoint on the data of its run, or on other data; return metrics by their logged names.

    Writes `<split>.json` and the folder `<split>` with the scores of each image and class, charts, a gallery
    of the worst and best images, and a page `index.html`.

    Classes of other data are matched by name, in any order; some of the run's classes may be missing.

    Raises:
        CheckpointError: If the file is none of ours, is damaged, or does not fit its own configuration.
        DataError: If the data are missing or broken, or have a class that the model does not know.
        ConfigError: If this version does not know the checkpoint's configuration.
        NonFiniteError: If the model's output for an image is not finite; nothing is recorded.
    """
    run = restore(cfg)
    datamodule = run.datamodule
    cost = measure_cost(run.train_cfg, run.task.model)
    path = run.results_folder("eval") / f"{cfg.split}.json"
    images = ImageScores()
    started = time.perf_counter()
    metrics, trainer = measure(run, path.parent, [images])
    seconds = time.perf_counter() - started
    outputs = images.gather(has_masks=run.train_cfg.data.task == "segmentation")
    if trainer.is_global_zero:
        notes = run.task.metric_notes()
        rows = {"checkpoint": str(run.path), **result_summary(cost, seconds, "evaluation"), **notes}
        rows |= _summarize_images(run) | _summarize_classes(run) | summarize_bad_samples(trainer)
        print_results(run.console, run.title, metrics, rows)
        facts = {**run.facts(), "images": datamodule.num_images[cfg.split], **_record_classes(run)}
        facts |= {**record_bad_samples(trainer), **model_size(cost), "protocol": notes}
        write_metrics(path, metrics | facts | environment())
        run.console.print(f"Written: {path}", soft_wrap=True)
        if outputs is not None and cfg.images:
            page = _write_images(run, outputs, metrics, path.parent / cfg.split)
            run.console.print(f"Scores of each image and class: {page}", soft_wrap=True)
    return metrics


def _summarize_images(run: RestoredRun) -> dict[str, str]:
    """Return the number of measured images as a row of the table, with those of the other splits."""
    counts = run.datamodule.num_images
    others = ", ".join(f"{name} {count:,}" for name, count in counts.items() if name != run.cfg.split)
    note = run.datamodule.reader.facts.get("flat", "") if run.cfg.data.root is not None else ""
    text = f"{counts[run.cfg.split]:,} of the {run.cfg.split} split; not measured: {others}"
    return {"images": "; ".join(filter(None, (text, note)))}


def _write_images(run: RestoredRun, outputs: ImageOutputs, metrics: dict[str, float], folder: Path) -> Path:
    """Write tables, charts and page of the results of single images; return the path of the page."""
    from .image_results import classification_result, segmentation_result  # matplotlib and scikit-learn

    if outputs.target is None:
        result = segmentation_result(run, outputs)
    else:
        result = classification_result(run, outputs, metrics)
    result.write(folder)
    scores = {name: f"{value:.4f}" for name, value in metrics.items()}
    about = {**run.facts(), "split": run.cfg.split, **scores, **environment()}
    return write_page(folder, f"{run.cfg.split}: {run.title}", about, result)


def measure(
    run: RestoredRun, folder: Path, callbacks: Sequence[Callback] = ()
) -> tuple[dict[str, float], pl.Trainer]:
    """Return the metrics of a run on its split, and the trainer that measured them."""
    cfg = run.cfg
    bars = [ProgressBar()] if cfg.trainer.enable_progress_bar else []
    with as_config_error(cfg, "trainer.accelerator", "trainer.devices"):
        trainer = pl.Trainer(
            accelerator=cfg.trainer.accelerator,
            devices=cfg.trainer.devices,
            precision=resolve_precision(run.train_cfg.trainer, cfg.trainer.accelerator),
            enable_progress_bar=cfg.trainer.enable_progress_bar,
            # not those of the run: a checkpoint may come from anywhere, and callbacks are code that it names
            callbacks=[*build_bad_sample_counter(run.train_cfg, folder), *callbacks, *bars],
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
    disable_signal_handlers(trainer)
    evaluation = trainer.test if cfg.split == "test" else trainer.validate
    (logged,) = evaluation(run.task, datamodule=run.datamodule, verbose=False)
    return {name: float(value) for name, value in logged.items()}, trainer


def _summarize_classes(run: RestoredRun) -> dict[str, str]:
    """Return a line on the classes in the data if they are not exactly those of the run."""
    known, present = run.task.class_names, run.datamodule.present_classes
    if not known:
        return {"classes": "not compared: the checkpoint is too old to hold their names; labels are trusted"}
    if present == known:
        return {}
    is_missing = bool(set(known) - set(present))
    few = ", ".join(present[:10]) + (", ..." if len(present) > 10 else "")
    note = f"; predictions are over all {len(known)}" if is_missing else " by their names"
    return {"classes": f"{len(present)} of the {len(known)} that the network knows ({few}){note}"}


def _record_classes(run: RestoredRun) -> dict[str, Any]:
    """Return the names of the scored classes for a record; null if they are not known."""
    if not run.task.class_names:
        return {"classes": None}
    present = run.datamodule.present_classes
    return {} if present == run.task.class_names else {"classes": list(present)}
