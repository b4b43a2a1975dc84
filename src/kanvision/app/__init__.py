"""Builds the objects that a configuration names, and runs them."""

from .analysis import analyse
from .evaluation import evaluate
from .explanation import explain
from .prediction import predict
from .training import train

__all__ = ["EVALUATIONS", "analyse", "evaluate", "explain", "predict", "train"]

EVALUATIONS = {"test": evaluate, "explain": explain, "predict": predict, "analyse": analyse}
"""What `eval.py` does, by its `mode`."""
