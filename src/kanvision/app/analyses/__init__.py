"""Analyses of `eval.py mode=analyse` by name: each looks at a `Study` and gives `Findings`."""

from collections.abc import Callable

from kanvision.analysis.findings import Findings

from .attention import attention
from .histograms import histograms
from .spectra import spectra
from .study import Study

__all__ = ["ANALYSES", "Study"]

ANALYSES: dict[str, Callable[[Study], Findings]] = {
    "attention": attention,
    "spectra": spectra,
    "histograms": histograms,
}
"""By the name that `analysis=` takes; `kanvision.config.analysis_schema.Analysis` lists the same names."""
