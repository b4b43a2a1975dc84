"""Settings of models that are legal one by one and impossible together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from kanvision.config.errors import Problem, problem_at
from kanvision.config.schema.models import (
    KANConvConfig,
    KKANConfig,
    UKANConfig,
)
from kanvision.config.schema.root import TrainConfig

__all__ = [
    "convolutions",
    "plain_twins",
    "segmenters",
]


def segmenters(config: TrainConfig) -> Iterator[Problem]:
    """Yield what does not fit in segmenters: plain layers of a U-KAN, stochastic depth without branches."""
    model = config.model
    plain = model.plain if isinstance(model, UKANConfig) else False
    if isinstance(model, UKANConfig) and not isinstance(plain, bool) and len(plain) != model.num_layers:
        why = f"{len(plain)} value{'s' if len(plain) != 1 else ''} for {model.num_layers} layers"
        yield problem_at(config, ["model.plain", "model.num_layers"], why, "give one value for each layer")
    if not model.has_residual_branches and model.drop_path_rate:
        why = "this network has no residual branches that could be left out"
        fix = "take model.drop_path_rate=0; model.drop_rate drops maps before the last layer"
        yield problem_at(config, ["model.drop_path_rate", "model.family"], why, fix)


_NOT_PLAIN: tuple[tuple[str, Callable[[Any], bool], str, str], ...] = (
    ("preset", lambda name: name is not None, "a plain layer is no published KAN layer", "null"),
    ("form", lambda form: form != "plain", "a plain convolution has no other form", "plain"),
    ("head", lambda head: "kan" in (head or ""), "a plain network has no KAN classifier", "linear"),
    ("init", lambda init: init == "variance_preserving", "it is a rule for rationals", "released"),
    ("init_from", lambda source: source is not None, "it is for networks with rationals", "null"),
)
"""Key of a model, the values that a plain twin cannot have, why, and a value that it can have."""


def plain_twins(config: TrainConfig) -> Iterator[Problem]:
    """Yield the settings of a KAN network that its plain twin cannot have."""
    if getattr(config.model, "plain", False) is not True:
        return
    for key, is_wrong, why, legal in _NOT_PLAIN:
        if is_wrong(getattr(config.model, key, legal if legal != "null" else None)):
            fix = f"use model.{key}={legal}, or model.plain=false"
            yield problem_at(config, [f"model.{key}", "model.plain"], why, fix)


LEAST_SIDE_OF_KKAN = 10
"""Two 3x3 convolutions without padding, each followed by 2x2 pooling, leave nothing of less."""


def convolutions(config: TrainConfig) -> Iterator[Problem]:
    """Yield what does not fit in networks of KAN convolutions: too few experts, too small images."""
    model = config.model
    side = config.data.img_size
    if isinstance(model, KKANConfig) and not model.padding and side < LEAST_SIDE_OF_KKAN:
        why = f"convolutions without padding need images of {LEAST_SIDE_OF_KKAN} pixels"
        yield problem_at(
            config, ["model.padding", "data.img_size"], why, "take model.padding=1, or larger images"
        )
    if not isinstance(model, KANConvConfig):
        return
    if model.form.startswith("moe") and model.top_k > model.num_experts:
        why = "more experts would work than there are"
        yield problem_at(config, ["model.top_k", "model.num_experts"], why, "take fewer, or more experts")
