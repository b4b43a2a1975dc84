"""Optimisers and learning-rate schedules."""

from .groups import build_optimizer, kan_parameter_names, parameter_groups, replace_parameter, scaled_lr
from .schedules import SCHEDULES, Plateau, build_scheduler, drops

__all__ = [
    "SCHEDULES",
    "Plateau",
    "build_optimizer",
    "build_scheduler",
    "drops",
    "kan_parameter_names",
    "parameter_groups",
    "replace_parameter",
    "scaled_lr",
]
