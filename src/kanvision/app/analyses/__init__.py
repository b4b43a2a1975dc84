"""Analyses of `eval.py mode=analyse` by name: each looks at a `Study` and gives `Findings`."""

from collections.abc import Callable

from kanvision.analysis.findings import Findings

from .attention import attention
from .hessian import hessian
from .histograms import histograms
from .landscape import landscape
from .spectra import spectra
from .study import Study
from .transfer import transfer

__all__ = ["ANALYSES", "Study"]

ANALYSES: dict[str, Callable[[Study], Findings]] = {
    "attention": attention,
    "spectra": spectra,
    "histograms": histograms,
    "landscape": landscape,
    "hessian": hessian,
    "transfer": transfer,
}
"""By the name that `analysis=` takes; `kanvision.config.analysis_schema.Analysis` lists the same names."""
