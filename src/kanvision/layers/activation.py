"""Activation functions by timm's names."""

from __future__ import annotations

from timm.layers.create_act import get_act_layer
from torch import nn

__all__ = ["ACTIVATIONS", "create_activation"]

ACTIVATIONS = (
    "celu",
    "elu",
    "gelu",
    "gelu_tanh",
    "hard_mish",
    "hard_sigmoid",
    "hard_swish",
    "identity",
    "leaky_relu",
    "mish",
    "prelu",
    "quick_gelu",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "swish",
    "tanh",
)


def create_activation(name: str | None, *, key: str = "act") -> nn.Module:
    """Build an activation from timm's name ("silu", "gelu", "prelu", ...); the identity for None.

    Raises:
        ValueError: The name is not one of `ACTIVATIONS`.
    """
    if name is None or name == "identity":
        return nn.Identity()
    if name not in ACTIVATIONS:
        raise ValueError(f"{key}={name!r} is not known; legal values: None, {', '.join(ACTIVATIONS)}")
    activation: nn.Module = get_act_layer(name)()
    return activation
