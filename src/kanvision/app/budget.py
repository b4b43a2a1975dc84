"""Width of a network by a budget of parameters or operations (`model.match`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch

from kanvision.config import ConfigError, TrainConfig
from kanvision.config.schema.transformers import KATConfig, TransformerConfig
from kanvision.spec.models import VIT_SIZES

from .build import measure_cost
from .model import build_model

__all__ = ["match_width"]

FINEST_SCALE = 1 / 256
"""Step of width_scale."""
TOLERANCE = 0.1
"""Largest relative distance from the budget."""


def match_width(cfg: TrainConfig, resumed: Mapping[str, Any] | None) -> TrainConfig:
    """Return the configuration with the width whose network is nearest to the budget, if it names one.

    The width is found by bisection over networks of growing width, which are built and thrown away; random
    numbers are drawn as if there were none. A kernel larger than 1x1, a head and an embedding scale
    differently with the width, so no formula gives it.

    Args:
        cfg: Configuration with the number of classes.
        resumed: Configuration in the checkpoint that training resumes from, whose width stays; or None.

    Raises:
        ConfigError: If no width comes within 10 % of the budget.
    """
    if cfg.model.match is None:
        return cfg
    before = None if resumed is None else resumed["model"].get("matched_width")
    width = before if before is not None else _find_width(cfg, *_parse(cfg.model.match))
    return _with_width(cfg, width)


def _parse(match: str) -> tuple[str, float]:
    kind, _, number = match.partition(":")
    return kind, float(number)


def _with_width(cfg: TrainConfig, width: float) -> TrainConfig:
    return cfg.model_copy(update={"model": cfg.model.model_copy(update={"matched_width": width})})


def _find_width(cfg: TrainConfig, kind: str, budget: float) -> float:
    """Return the width with the smallest ratio between cost and budget, one way or the other."""
    step = _step(cfg)

    @cache
    def count(num_steps: int) -> int:
        with torch.random.fork_rng(devices=[]):
            trial = _with_width(cfg, num_steps * step)
            cost = measure_cost(trial, build_model(trial))
        return cost.parameters if kind == "params" else cost.flops + cost.basis_flops

    low, high = 1, max(1, round((1 if step < 1 else 64) / step))
    while count(high) < budget:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) < budget else (low, middle)
    best = min((low, high), key=lambda num: abs(math.log(count(num) / budget)))
    if abs(count(best) / budget - 1) > TOLERANCE:
        nearest = f"the nearest ones have {count(low):,} and {count(high):,}"
        why = f"no width comes within {TOLERANCE:.0%} of it: {nearest}"
        raise ConfigError.at(cfg, ["model.match"], why, "take one of these numbers, or another size")
    return best * step


def _step(cfg: TrainConfig) -> float:
    """Return the difference between two widths: a step of the scale, or of channels that heads divide."""
    model = cfg.model
    if not isinstance(model, TransformerConfig):
        return FINEST_SCALE
    heads = model.num_heads or VIT_SIZES[model.size]["num_heads"]
    return math.lcm(heads, model.num_groups if isinstance(model, KATConfig) else 1)
