"""Settings of networks of KAN convolutions that are legal one by one and impossible together."""

from __future__ import annotations

from collections.abc import Iterator

from .model_schema import KANBackboneConfig, KANConvConfig, KKANConfig
from .problems import Problem, conflict
from .schema import TrainConfig

__all__ = ["convolutions"]

LEAST_SIDE_OF_KKAN = 10
"""Two 3x3 convolutions without padding, each followed by 2x2 pooling, leave nothing of less."""


def convolutions(config: TrainConfig) -> Iterator[Problem]:
    """What does not fit: plain layers in another form or with a KAN classifier, too few experts or pixels."""
    model = config.model
    side = config.data.img_size
    if isinstance(model, KKANConfig) and not model.padding and side < LEAST_SIDE_OF_KKAN:
        why = f"convolutions without padding need images of {LEAST_SIDE_OF_KKAN} pixels"
        yield conflict(
            config, ["model.padding", "data.img_size"], why, "take model.padding=1, or larger images"
        )
    if not isinstance(model, KANConvConfig):
        return
    if model.layer == "conv" and model.form != "plain":
        why = "a convolution without a basis has no other form"
        yield conflict(config, ["model.form", "model.layer"], why, "take model.form=plain, or a KAN layer")
    head = model.head if isinstance(model, KANBackboneConfig) else None
    if model.layer == "conv" and head is not None and "kan" in head:
        why = "a network without a basis has no KAN classifier"
        yield conflict(config, ["model.head", "model.layer"], why, "take model.head=linear, or a KAN layer")
    if model.form.startswith("moe") and model.top_k > model.num_experts:
        why = "more experts would work than there are"
        yield conflict(config, ["model.top_k", "model.num_experts"], why, "take fewer, or more experts")
