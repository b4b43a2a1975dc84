"""Activation functions by timm's names."""

from __future__ import annotations

from typing import cast

import torch
from timm.layers.create_act import get_act_layer
from torch import Tensor, nn

from kanvision.expansion import elementary
from kanvision.expansion.define import Definition, Vocabulary

__all__ = ["ACTIVATIONS", "create_activation", "define_activation"]

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


_DEFINITIONS: dict[str, Definition] = {
    "gelu": elementary.GELU,
    "quick_gelu": elementary.QUICK_GELU,
    "relu": elementary.RELU,
    "sigmoid": elementary.SIGMOID,
    "silu": elementary.SILU,
    "tanh": elementary.TANH,
}
"""Activations with a formula over scalars, by name."""
_NAMES: dict[type[nn.Module], str] = {
    get_act_layer(name): name
    for name in ACTIVATIONS
    if name not in ("identity", "swish", "prelu")  # swish is silu, prelu has a parameter
}


def define_activation(activation: nn.Module) -> Definition | None:
    """Return the definition of an activation; None for one with parameters, or of an unknown class."""
    name = _NAMES.get(type(activation))
    if name is None:
        return None
    return _DEFINITIONS.get(name) or Definition(_apply, settings=(name,), is_traceable=False)


def _apply(m: Vocabulary, x: Tensor | float, name: str) -> list[Tensor]:
    return [cast(Tensor, get_act_layer(name)()(torch.as_tensor(x)))]
