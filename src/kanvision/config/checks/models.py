"""Settings of networks of KAN convolutions that are legal one by one and impossible together."""

from __future__ import annotations

from collections.abc import Iterator

from kanvision.config.errors import Problem, problem_at
from kanvision.config.schema.models import (
    KANBackboneConfig,
    KANConvConfig,
    KANUNetConfig,
    KKANConfig,
    U2KANConfig,
    UKANConfig,
)
from kanvision.config.schema.root import TrainConfig
from kanvision.config.schema.unets import AttentionUNetConfig, NestedUNetConfig, RollingUNetConfig, UNetConfig

__all__ = [
    "convolutions",
    "segmenters",
]


_WITHOUT_BRANCHES = (
    UNetConfig,
    AttentionUNetConfig,
    NestedUNetConfig,
    RollingUNetConfig,
    KANUNetConfig,
    U2KANConfig,
)


def segmenters(config: TrainConfig) -> Iterator[Problem]:
    """What does not fit: which layers of a block are KAN layers, and stochastic depth without branches."""
    model = config.model
    if isinstance(model, UKANConfig):
        if not isinstance(model.kan, bool) and len(model.kan) != model.num_layers:
            why = (
                f"{len(model.kan)} entr{'ies' if len(model.kan) != 1 else 'y'} for {model.num_layers} layers"
            )
            yield problem_at(config, ["model.kan", "model.num_layers"], why, "give one entry for each layer")
        if model.kan is False and model.layer is not None:
            why = "the MLP twin has no KAN layer"
            yield problem_at(
                config, ["model.layer", "model.kan"], why, "take model.layer=null, or model.kan=true"
            )
    if isinstance(model, _WITHOUT_BRANCHES) and model.drop_path_rate:
        why = "this network has no residual branches that could be left out"
        fix = "take model.drop_path_rate=0; model.drop_rate drops maps before the last layer"
        yield problem_at(config, ["model.drop_path_rate", "model.family"], why, fix)


LEAST_SIDE_OF_KKAN = 10
"""Two 3x3 convolutions without padding, each followed by 2x2 pooling, leave nothing of less."""


def convolutions(config: TrainConfig) -> Iterator[Problem]:
    """What does not fit: plain layers in another form or with a KAN classifier, too few experts or pixels."""
    model = config.model
    side = config.data.img_size
    if isinstance(model, KKANConfig) and not model.padding and side < LEAST_SIDE_OF_KKAN:
        why = f"convolutions without padding need images of {LEAST_SIDE_OF_KKAN} pixels"
        yield problem_at(
            config, ["model.padding", "data.img_size"], why, "take model.padding=1, or larger images"
        )
    if not isinstance(model, KANConvConfig):
        return
    if model.layer == "conv" and model.form != "plain":
        why = "a convolution without a basis has no other form"
        yield problem_at(config, ["model.form", "model.layer"], why, "take model.form=plain, or a KAN layer")
    head = model.head if isinstance(model, KANBackboneConfig) else None
    if model.layer == "conv" and head is not None and "kan" in head:
        why = "a network without a basis has no KAN classifier"
        yield problem_at(config, ["model.head", "model.layer"], why, "take model.head=linear, or a KAN layer")
    if model.form.startswith("moe") and model.top_k > model.num_experts:
        why = "more experts would work than there are"
        yield problem_at(config, ["model.top_k", "model.num_experts"], why, "take fewer, or more experts")
