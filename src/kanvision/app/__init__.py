"""Builds the objects that a configuration names, and runs them."""

from .analysis import analyse
from .checking import check_data
from .evaluation import evaluate
from .explanation import explain
from .prediction import predict
from .stopping import RunStoppedError
from .training import train

__all__ = [
    "EVALUATIONS",
    "RunStoppedError",
    "analyse",
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
    "analyse": analyse,
    "check_data": check_data,
}
"""What `eval.py` does, by its `mode`."""
