"""Builds the objects that a configuration names, and runs them.

A mode is imported when it runs, so that a training does not wait for analyses and predictions.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from kanvision.spec.evaluation import Mode

__all__ = ["EVALUATIONS"]


def _function(module: str, name: str) -> Callable[[Any], Any]:
    def run(config: Any) -> Any:
        return getattr(importlib.import_module(module, __name__), name)(config)

    return run


EVALUATIONS: dict[Mode, Callable[[Any], Any]] = {
    "test": _function(".evaluate", "evaluate"),
    "explain": _function(".explain.run", "explain"),
    "predict": _function(".predict.run", "predict"),
    "analyze": _function(".analyze.run", "analyze"),
    "functions": _function(".analyze.run", "analyze"),
    "export": _function(".export", "export"),
    "check_data": _function(".check_data", "check_data"),
    "report": _function(".report", "report"),
    "benchmark": _function(".benchmark", "benchmark"),
}
"""Functions of the configuration that `eval.py` calls, by its `mode`."""
