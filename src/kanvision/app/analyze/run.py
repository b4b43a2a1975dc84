"""`eval.py mode=analyze`: a look inside a trained network."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from lightning_fabric import Fabric

from kanvision.analysis.html_page import SUMMARY, write_index, write_page
from kanvision.analysis.results import AnalysisResult
from kanvision.app import record
from kanvision.app.evaluation_results import results_folder
from kanvision.app.restore import restore
from kanvision.config import EvalConfig, as_config_error
from kanvision.console import build_console
from kanvision.spec.evaluation import Analysis

from .attention import attention
from .hessian import hessian
from .histograms import histograms
from .landscape import landscape
from .spectra import spectra
from .study import AnalysisContext
from .transfer import transfer

__all__ = [
    "ANALYSES",
    "AnalysisContext",
    "analyze",
]


ANALYSES: dict[Analysis, Callable[[AnalysisContext], AnalysisResult]] = {
    "attention": attention,
    "spectra": spectra,
    "histograms": histograms,
    "landscape": landscape,
    "hessian": hessian,
    "transfer": transfer,
}
"""Analyses by the name that `analysis=` takes."""


def analyze(cfg: EvalConfig) -> dict[str, float]:
    """Look at a checkpoint in the way that `cfg.analysis` names.

    Writes pictures, tables, `summary.json` and a page `index.html` to `<run>/analyses/<analysis>`, and the
    page that leads to those of all analyses to `<run>/analyses`; `cfg.output` takes the place of the latter.

    Returns:
        What was found, as numbers by name.

    Raises:
        CheckpointError: If a file is none of ours, is damaged, or does not fit its own configuration.
        DataError: If the data are missing or broken.
        ConfigError: If this version does not know the checkpoint's configuration, or the network or the run
            has nothing of what is asked for.
    """
    assert cfg.analysis is not None
    path, run, task = restore(cfg)
    with as_config_error(cfg, "trainer.accelerator"):
        device = Fabric(accelerator=cfg.trainer.accelerator, devices=1).device
    task.eval().requires_grad_(False).to(device, torch.float32)
    console = build_console()
    result = ANALYSES[cfg.analysis](AnalysisContext(cfg, path, run, task, device, console))
    root = results_folder(cfg, path, task.config, "analyses")
    folder = root / cfg.analysis
    result.write(folder)
    title = f"{cfg.analysis}: {run.model.name} on {run.data.name}"
    options = getattr(cfg.analyze, cfg.analysis, None)
    about = {
        "checkpoint": str(path),
        "model": run.model.name,
        "data": run.data.name,
        "root": run.data.root,
        "split": cfg.split,
        "seed": run.seed,
        "options": {"seed": cfg.analyze.seed} | (options.model_dump(mode="json") if options else {}),
    }
    write_page(folder, title, about | record.environment(), result)
    summary = {
        "title": title,
        **about,
        "sentences": list(result.sentences),
        "numbers": {k: v if math.isfinite(v) else None for k, v in result.numbers.items()},
        "pictures": [picture.name for picture in result.pictures],
        **record.environment(),
    }
    record.write_metrics(folder / SUMMARY, summary)
    write_index(root)
    console.print(title, style="bold")
    for sentence in result.sentences:
        console.print(f"- {sentence}")
    console.print(f"Written: {folder}", soft_wrap=True)
    return dict(result.numbers)
