"""What a run tells people about itself, as lines of a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from kanvision.analysis.cost import Cost
from kanvision.callbacks import DataFaults
from kanvision.checkpoints import Start
from kanvision.config import TrainConfig, live_owner, notes
from kanvision.data import ImageDataModule
from kanvision.effort import Effort

from .building import is_dry


def facts_before(
    cfg: TrainConfig,
    datamodule: ImageDataModule,
    effort: Effort,
    price: Cost,
    trainer: pl.Trainer,
    resume: str | None,
    start: Start | None,
) -> dict[str, str]:
    """What is known before training; of a run that goes on from `resume`, or has its `start` elsewhere."""
    facts = {
        "run": "a trial, nothing is written" if is_dry(cfg) else cfg.run.dir,
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
        facts["resume"] = resume or _why_fresh(Path(cfg.run.dir))
    return facts | {f"note {number}": text for number, text in enumerate(notes(cfg), 1)}


def _why_fresh(folder: Path) -> str:
    """Why a run with resume=auto starts from the beginning; runs that are still going on are named."""
    others = (other for other in sorted(folder.parent.glob("*")) if other.name != folder.name)
    live = [f"{other.name} is still running" for other in others if live_owner(other) is not None]
    return "; ".join([f"no unfinished run in {folder.parent}", *live, "a fresh start"])


def facts_after(price: Cost, seconds: float, what: str) -> dict[str, str]:
    """Size of the network and the seconds that `what` took."""
    return {
        "parameters": f"{price.parameters:,}",
        "GFLOP / image": _gflops(price),
        f"{what} time": f"{seconds:.1f} s",
    }


def faults_found(trainer: pl.Trainer) -> dict[str, str]:
    """What was skipped of the data, and how many images the metrics rest on; nothing where nothing may be."""
    lines: dict[str, str] = {}
    for counter in _fault_counters(trainer):
        for split, count in counter.measured.items():
            lines[f"{split} images measured"] = f"{count:,}"
        where = f", listed in {counter.path}" if counter.path is not None and counter.known else ""
        lines["files skipped"] = f"{len(counter.known)}{where}"
        lines |= {f"skipped {number}": text for number, text in enumerate(counter.lines(), 1)}
    return lines


def faults_recorded(trainer: pl.Trainer) -> dict[str, Any]:
    """The same for a record."""
    return {
        key: value
        for counter in _fault_counters(trainer)
        for key, value in (("images_measured", counter.measured), ("files_skipped", len(counter.known)))
    }


def _fault_counters(trainer: pl.Trainer) -> list[DataFaults]:
    callbacks: Any = trainer
    return [callback for callback in callbacks.callbacks if isinstance(callback, DataFaults)]


def size_of(price: Cost) -> dict[str, int]:
    """Size of the network as numbers for a record."""
    return {"parameters": price.parameters, "flops": price.flops, "basis_flops": price.basis_flops}


def _gflops(price: Cost) -> str:
    functions = f" + {price.basis_flops / 1e9:.2g} for functions" if price.basis_flops else ""
    return f"{price.flops / 1e9:.4g}{functions}"
