"""What a run tells people about itself, as lines of a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from kanvision.analysis.cost import Cost
from kanvision.callbacks import BadSampleCounter, TrainingClock
from kanvision.checkpoints import Start
from kanvision.config import TrainConfig, live_owner, notes
from kanvision.config.checks.resume import why_other_training
from kanvision.config.runtime.run_folder import is_resumable
from kanvision.data import ImageDataModule

from .build import is_dry_run
from .effective_batch import EffectiveBatch
from .resume import ResumePoint

NUM_NAMED = 5


def run_summary(
    cfg: TrainConfig,
    datamodule: ImageDataModule,
    effort: EffectiveBatch,
    price: Cost,
    trainer: pl.Trainer,
    resume: ResumePoint | None,
    start: Start | None,
    changes: Sequence[str] = (),
) -> dict[str, str]:
    """What is known before training; of a run that goes on from `resume`, or has its `start` elsewhere.

    `changes` are settings of a run that goes on which were others so far.
    """
    facts = {
        "run": "a trial, nothing is written" if is_dry_run(cfg) else cfg.run.dir,
        "recipe": f"{cfg.recipe.name} ({cfg.recipe.source})",
        "images": ", ".join(f"{split} {count:,}" for split, count in datamodule.num_images.items()),
        **datamodule.facts,
        "training": str(effort),
        "model": f"{price.parameters:,} parameters, {_gflops(price)} GFLOP an image",
        "precision": str(trainer.precision),
    }
    if trainer.precision != cfg.trainer.precision:
        facts["precision"] += f" ({cfg.trainer.precision} would only slow a CPU down)"
    origin = cfg.finetune.init_from or getattr(cfg.model, "init_from", None)
    if origin is not None and resume is None:
        facts["weights"] = "; ".join(filter(None, [f"start from {origin}", str(start or "")]))
    if (teacher := getattr(cfg.model, "teacher", None)) is not None:
        facts["attention"] = f"that of {teacher}, frozen"
    if cfg.resume is not None:
        facts["resume"] = _why_fresh(cfg) if resume is None else str(resume)
    facts |= {f"changed {number}": text for number, text in enumerate(changes, 1)}
    return facts | {f"note {number}": text for number, text in enumerate(notes(cfg), 1)}


def _why_fresh(cfg: TrainConfig) -> str:
    """Why a run with resume=auto starts from the beginning; the runs that were passed over are named."""
    folder, passed_over = Path(cfg.run.dir), []
    for other in sorted(folder.parent.glob("*"), reverse=True):
        if other.name == folder.name or not is_resumable(other):
            continue
        if live_owner(other) is not None:
            passed_over.append(f"{other.name} is still running")
        else:
            passed_over.append(f"{other.name} {why_other_training(other, cfg)}")
    more = [f"and {len(passed_over) - NUM_NAMED} more"] if len(passed_over) > NUM_NAMED else []
    kind = f"no unfinished run of these settings in {folder.parent}"
    return "; ".join([kind, *passed_over[:NUM_NAMED], *more, "a fresh start"])


def result_summary(price: Cost, seconds: float, what: str) -> dict[str, str]:
    """Size of the network and the seconds that `what` took."""
    return {
        "parameters": f"{price.parameters:,}",
        "GFLOP / image": _gflops(price),
        f"{what} time": f"{seconds:.1f} s",
    }


def summarize_bad_samples(trainer: pl.Trainer) -> dict[str, str]:
    """What was skipped of the data, and how many images the metrics rest on; nothing where nothing may be."""
    lines: dict[str, str] = {}
    for counter in _fault_counters(trainer):
        for split, count in counter.measured.items():
            lines[f"{split} images measured"] = f"{count:,}"
        where = f", listed in {counter.path}" if counter.path is not None and counter.known else ""
        lines["files skipped"] = f"{len(counter.known)}{where}"
        lines |= {f"skipped {number}": text for number, text in enumerate(counter.lines(), 1)}
    return lines


def record_bad_samples(trainer: pl.Trainer) -> dict[str, Any]:
    """The same for a record."""
    return {
        key: value
        for counter in _fault_counters(trainer)
        for key, value in (("images_measured", counter.measured), ("files_skipped", len(counter.known)))
    }


def train_seconds(trainer: pl.Trainer) -> float:
    """Seconds of training, with those of earlier pieces of the run."""
    callbacks: Any = trainer
    return sum((c.seconds for c in callbacks.callbacks if isinstance(c, TrainingClock)), start=0.0)


def _fault_counters(trainer: pl.Trainer) -> list[BadSampleCounter]:
    callbacks: Any = trainer
    return [callback for callback in callbacks.callbacks if isinstance(callback, BadSampleCounter)]


def model_size(price: Cost) -> dict[str, int]:
    """Size of the network as numbers for a record."""
    return {"parameters": price.parameters, "flops": price.flops, "basis_flops": price.basis_flops}


def _gflops(price: Cost) -> str:
    functions = f" + {price.basis_flops / 1e9:.2g} for functions" if price.basis_flops else ""
    return f"{price.flops / 1e9:.4g}{functions}"
