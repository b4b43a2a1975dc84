"""Builds the objects that a configuration names, and runs them."""

from .analyze.run import analyze
from .check_data import check_data
from .evaluate import evaluate
from .explain.run import explain
from .interrupt import RunStoppedError
from .predict.run import predict
from .train import train

__all__ = [
    "EVALUATIONS",
    "RunStoppedError",
    "analyze",
    "check_data",
    "evaluate",
    "explain",
    "predict",
    "train",
]

EVALUATIONS = {
    "test": evaluate,
    "explain": explain,
    "predict": predict,
    "analyze": analyze,
    "check_data": check_data,
}
"""What `eval.py` does, by its `mode`."""
