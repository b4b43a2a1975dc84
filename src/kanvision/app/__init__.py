"""Builds the objects that a configuration names, and runs them.

A mode is imported when it runs, so that a training does not wait for analyses and predictions.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from kanvision.spec.evaluation import Mode

__all__ = ["EVALUATIONS", "load_evaluation"]

EVALUATIONS: dict[Mode, tuple[str, str]] = {
    "test": (".evaluate", "evaluate"),
    "explain": (".explain.run", "explain"),
    "predict": (".predict.run", "predict"),
    "analyze": (".analyze.run", "analyze"),
    "functions": (".analyze.run", "analyze"),
    "export": (".export", "export"),
    "check_data": (".check_data", "check_data"),
    "report": (".compare_runs", "report"),
    "benchmark": (".benchmark", "benchmark"),
}
"""Module and function of each mode of `eval.py`."""


def load_evaluation(mode: Mode) -> Callable[[Any], Any]:
    """Import the function of a mode of `eval.py`, which takes the configuration."""
    module, name = EVALUATIONS[mode]
    function: Callable[[Any], Any] = getattr(importlib.import_module(module, __name__), name)
    return function
