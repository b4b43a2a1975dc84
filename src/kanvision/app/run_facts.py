"""Facts of a run as lines of a table and as numbers of a record."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from kanvision.analysis.cost import Cost
from kanvision.callbacks import BadSampleCounter, TrainingClock
from kanvision.config import TrainConfig, live_owner, notes, program, shell_word
from kanvision.config.checks.resume import why_other_training
from kanvision.config.runtime.run_folder import is_resumable
from kanvision.data import ImageDataModule
from kanvision.data.fingerprints import fingerprint
from kanvision.expansion.execute import find_kernel_obstacle
from kanvision.layers.functions import FunctionPlot

from .build import find_callbacks, is_dry_run
from .training_run import TrainingRun

MAX_LISTED = 5
"""Number of other runs that are listed."""


def run_summary(run: TrainingRun) -> dict[str, str]:
    """Return what is known before training, as lines of the header."""
    cfg, precision = run.cfg, str(run.trainer.precision)
    lines = {
        "run": "a trial, nothing is written" if is_dry_run(cfg) else cfg.run.dir,
        "recipe": f"{cfg.recipe.name} ({cfg.recipe.source})",
        "images": ", ".join(f"{split} {count:,}" for split, count in run.datamodule.num_images.items()),
        **run.datamodule.facts,
        "training": str(run.effective_batch),
        "model": f"{run.cost.parameters:,} parameters, {_format_gflops(run.cost)} GFLOP an image",
        "precision": precision,
    }
    if cfg.model.matched_width is not None:
        lines["width"] = (
            f"{cfg.model.width_key()}={cfg.model.matched_width:g}, by model.match={cfg.model.match}"
        )
    if precision != cfg.trainer.precision:
        lines["precision"] += f" (not {cfg.trainer.precision} on this CPU: docs/speed.md)"
    if cfg.trainer.compile == "auto":
        lines["compilation"] = str(run.compilation)
    if (reason := find_kernel_obstacle()) and run.trainer.strategy.root_device.type == "cpu":
        lines["kernels"] = f"plain formulas of the functions, which are slower: {reason}"
    origin = cfg.finetune.init_from or getattr(cfg.model, "init_from", None)
    if origin is not None and run.resume is None:
        lines["weights"] = "; ".join(filter(None, [f"start from {origin}", str(run.start or "")]))
    if (teacher := getattr(cfg.model, "teacher", None)) is not None:
        lines["attention"] = f"that of {teacher}, frozen"
    if cfg.resume is not None:
        lines["resume"] = _explain_fresh_start(cfg) if run.resume is None else str(run.resume)
    lines |= {f"changed {number}": text for number, text in enumerate(run.changes, 1)}
    lines |= {f"note {number}": text for number, text in enumerate(notes(cfg), 1)}
    return lines | ({"warm-up": run.warmup} if run.warmup else {})


def _explain_fresh_start(cfg: TrainConfig) -> str:
    """Return why a run with `resume=auto` starts from the beginning, with the runs that do not fit."""
    folder, skipped = Path(cfg.run.dir), []
    for other in sorted(folder.parent.glob("*"), reverse=True):
        if other.name == folder.name or not is_resumable(other):
            continue
        if live_owner(other) is not None:
            skipped.append(f"{other.name} is still running")
        else:
            skipped.append(f"{other.name} {why_other_training(other, cfg)}")
    more = [f"and {len(skipped) - MAX_LISTED} more"] if len(skipped) > MAX_LISTED else []
    reason = f"no unfinished run of these settings in {folder.parent}"
    return "; ".join([reason, *skipped[:MAX_LISTED], *more, "a fresh start"])


def describe_results(run: TrainingRun) -> list[str]:
    """Return lines on what a run has written, and on commands that use it."""
    folder, lines = run.folder, [f"Written: {run.folder}"]
    found = {
        "metrics.json": "metrics, costs and versions",
        "pictures": "validation images with predictions",
        "csv/metrics.csv": "metrics of each epoch",
    }
    lines += [f"  {name}: {text}" for name, text in found.items() if (folder / name).exists()]
    if (folder / "tensorboard").is_dir():
        lines.append(f"  tensorboard --logdir {shlex.quote(str(folder))}")
    if run.best is None:
        return lines
    command = f"{program('eval')} {shell_word('ckpt', str(folder))}"
    kind = "masks" if run.cfg.data.task == "segmentation" else "the class"
    lines += [
        f"Next: {command}",
        f"  {command} mode=predict input=<image or folder>: {kind} of your own images",
        f"  {command} mode=explain: the regions that predictions depend on",
    ]
    if any(isinstance(module, FunctionPlot) for module in run.task.model.modules()):
        lines.append(f"  {command} mode=functions: the learned functions")
    return lines


def result_summary(cost: Cost, seconds: float, stage: str) -> dict[str, str]:
    """Return the size of the model and the seconds of a stage (training, evaluation), as lines of a table."""
    return {
        "parameters": f"{cost.parameters:,}",
        "GFLOP / image": _format_gflops(cost),
        f"{stage} time": f"{seconds:.1f} s",
    }


def summarize_bad_samples(trainer: pl.Trainer) -> dict[str, str]:
    """Return lines on skipped files and on images that metrics rest on; none where no file may be skipped."""
    lines: dict[str, str] = {}
    for counter in find_callbacks(trainer, BadSampleCounter):
        for split, count in counter.measured.items():
            lines[f"{split} images measured"] = f"{count:,}"
        listed = f", listed in {counter.path}" if counter.path is not None and counter.known else ""
        lines["files skipped"] = f"{len(counter.known)}{listed}"
        lines |= {f"skipped {number}": text for number, text in enumerate(counter.lines(), 1)}
    return lines


def record_bad_samples(trainer: pl.Trainer) -> dict[str, Any]:
    """Return numbers of skipped files and measured images, for a record."""
    return {
        key: value
        for counter in find_callbacks(trainer, BadSampleCounter)
        for key, value in (("images_measured", counter.measured), ("files_skipped", len(counter.known)))
    }


def get_training_clock(trainer: pl.Trainer) -> TrainingClock:
    """Return the clock of a training, which every trainer has."""
    return find_callbacks(trainer, TrainingClock)[0]


def record_data(datamodule: ImageDataModule) -> dict[str, dict[str, Any]]:
    """Return number and fingerprint of the images of each split, for a record."""
    digests = {split: fingerprint(datamodule.datasets[split]) for split in datamodule.num_images}
    return {"images": datamodule.num_images, "data_fingerprint": digests}


def model_size(cost: Cost) -> dict[str, int]:
    """Return the size of a model as numbers of a record."""
    return {"parameters": cost.parameters, "flops": cost.flops, "basis_flops": cost.basis_flops}


def _format_gflops(cost: Cost) -> str:
    functions = f" + {cost.basis_flops / 1e9:.2g} for functions" if cost.basis_flops else ""
    return f"{cost.flops / 1e9:.4g}{functions}"
