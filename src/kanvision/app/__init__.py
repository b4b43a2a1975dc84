"""Builds the objects that a configuration names, and runs them."""

from .evaluation import evaluate
from .training import train

__all__ = ["EVALUATIONS", "evaluate", "train"]

EVALUATIONS = {"test": evaluate}
"""What `eval.py` does, by its `mode`."""
