"""Optimizers and learning-rate schedules."""

from .groups import (
    apply_settings,
    build_optimizer,
    group_settings,
    kan_parameter_names,
    parameter_groups,
    regroup_state,
    replace_parameter,
    scaled_lr,
)
from .schedules import SCHEDULES, Plateau, build_scheduler, count_reductions

__all__ = [
    "SCHEDULES",
    "Plateau",
    "apply_settings",
    "build_optimizer",
    "build_scheduler",
    "count_reductions",
    "group_settings",
    "kan_parameter_names",
    "parameter_groups",
    "regroup_state",
    "replace_parameter",
    "scaled_lr",
]
