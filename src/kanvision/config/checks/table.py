"""Table of all rules; every problem of a configuration is found in one pass."""

from __future__ import annotations

from kanvision.config.errors import Problem
from kanvision.config.groups import ConfigGroups
from kanvision.config.schema.root import EvalConfig, TrainConfig

from . import batch_size, callbacks, data, evaluation, losses_and_metrics, models, training
from .models import basis_problems, name_legal_kinds
from .rules import Rule, find_problems

__all__ = ["EVAL_RULES", "TRAIN_RULES", "eval_problems", "train_problems"]

TRAIN_RULES: tuple[Rule, ...] = (
    *losses_and_metrics.RULES,
    *data.RULES,
    *models.RULES,
    *batch_size.RULES,
    *training.RULES,
    *callbacks.RULES,
)
EVAL_RULES: tuple[Rule, ...] = evaluation.RULES


def train_problems(config: TrainConfig, choices: ConfigGroups | None = None) -> list[Problem]:
    """Return the problems of a training configuration.

    Args:
        config: Configuration that fits the schema.
        choices: The folder conf/, to name legal choices and to know the keys of each basis; None skips both.
    """
    problems = find_problems(config, TRAIN_RULES)
    if choices is None:
        return problems
    return [*(name_legal_kinds(problem, choices) for problem in problems), *basis_problems(config, choices)]


def eval_problems(config: EvalConfig) -> list[Problem]:
    """Return the problems of an evaluation configuration."""
    return find_problems(config, EVAL_RULES)
