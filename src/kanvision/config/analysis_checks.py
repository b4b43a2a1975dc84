"""What does not fit together in a configuration of `eval.py mode=analyse`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from .analysis_schema import Analysis, AnalysisConfig
from .mode_checks import changed_keys, unused
from .problems import Problem, conflict
from .schema import EvalConfig

__all__ = ["analysis_problems"]

ANALYSES: tuple[str, ...] = get_args(Analysis)


def analysis_problems(config: EvalConfig) -> Iterator[Problem]:
    """Complaints about mode=analyse; none in other modes."""
    if config.mode != "analyse":
        return
    if config.analysis is None:
        why = "mode=analyse needs to know what to look at"
        yield conflict(config, ["analysis"], why, f"legal: {', '.join(ANALYSES)}")
        return
    for name in ANALYSES:
        if name != config.analysis and hasattr(config.analyse, name):
            keys = list(changed_keys(config.analyse, AnalysisConfig(), name, "analyse."))
            if keys:
                yield unused(config, keys, f"analysis={config.analysis}", f"analysis={name}")
    if config.trainer.devices not in (1, "auto"):
        yield conflict(config, ["trainer.devices"], "mode=analyse runs on one device", "leave it out")
