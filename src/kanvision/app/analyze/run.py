"""Command `eval.py mode=analyze`: analyze a trained model."""

from __future__ import annotations

import math
from collections.abc import Callable

from kanvision import plugins
from kanvision.analysis.html_page import SUMMARY, write_index, write_page
from kanvision.analysis.results import AnalysisResult
from kanvision.app.restore import RestoredRun, restore
from kanvision.app.run_record import environment, write_metrics
from kanvision.config import EvalConfig
from kanvision.spec.evaluation import Analysis

from .attention import attention
from .functions import functions
from .hessian import hessian
from .histograms import histograms
from .landscape import landscape
from .spectra import spectra
from .transfer import transfer

__all__ = ["ANALYSES", "analyze"]


ANALYSES: dict[Analysis, Callable[[RestoredRun], AnalysisResult]] = {
    "attention": attention,
    "functions": functions,
    "spectra": spectra,
    "histograms": histograms,
    "landscape": landscape,
    "hessian": hessian,
    "transfer": transfer,
}
"""Analyses by the name in `analysis=`."""


def analyze(cfg: EvalConfig) -> dict[str, float]:
    """Run the analysis `cfg.analysis` on a checkpoint; return its numbers by name.

    Writes pictures, tables, `summary.json` and a page `index.html` to `<run>/analyses/<analysis>`, and an
    index of all analyses to `<run>/analyses`; `cfg.output` replaces `<run>/analyses`.

    Raises:
        CheckpointError: If a file is none of ours, is damaged, or does not fit its own configuration.
        DataError: If the data are missing or broken.
        ConfigError: If this version does not know the checkpoint's configuration, or the analysis does not
            apply to the model or the run.
    """
    assert cfg.analysis is not None
    run = restore(cfg)
    run.freeze()
    own = plugins.ANALYSES.get(cfg.analysis)
    result = ANALYSES[cfg.analysis](run) if own is None else own(run, **cfg.analyze.kwargs)
    root = run.results_folder("analyses")
    folder = root / cfg.analysis
    result.write(folder)
    title = f"{cfg.analysis}: {run.title}"
    options = getattr(cfg.analyze, cfg.analysis, None)
    facts = run.facts() | {
        "split": cfg.split,
        "options": {"seed": cfg.analyze.seed} | (options.model_dump(mode="json") if options else {}),
    }
    write_page(folder, title, facts | environment(), result)
    summary = {
        "title": title,
        **facts,
        "sentences": list(result.sentences),
        "numbers": {k: v if math.isfinite(v) else None for k, v in result.numbers.items()},
        "pictures": [picture.name for picture in result.pictures],
        **environment(),
    }
    write_metrics(folder / SUMMARY, summary)
    write_index(root)
    run.console.print(title, style="bold")
    for sentence in result.sentences:
        run.console.print(f"- {sentence}")
    run.console.print(f"Written: {folder}", soft_wrap=True)
    return dict(result.numbers)
