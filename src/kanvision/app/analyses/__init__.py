"""Analyses of `eval.py mode=analyse` by name: each looks at a `Study` and gives `Findings`."""

from collections.abc import Callable

from kanvision.analysis.findings import Findings

from .attention import attention
from .study import Study

__all__ = ["ANALYSES", "Study"]

ANALYSES: dict[str, Callable[[Study], Findings]] = {"attention": attention}
"""By the name that `analysis=` takes; `kanvision.config.analysis_schema.Analysis` lists the same names."""
