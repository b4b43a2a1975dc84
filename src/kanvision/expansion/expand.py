"""Values of a definition on tensors, which keep only points and inputs for the backward pass.

Loops serve ordinary calls. Transforms, tracers and compilers get the plain formula, as ordinary operations.

Shapes: C channels, K functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from .arrangement import Arrangement
from .define import Definition, count_functions, evaluate
from .double_backward import plain_gradients
from .execute import compute_gradients, compute_values
from .ordinary import is_ordinary

__all__ = ["expand"]


def expand(definition: Definition, inputs: Sequence[Tensor], x: Tensor, channel_dim: int) -> Tensor:
    """Return the values of all functions, with K inserted after the axis of the channels.

    Args:
        definition: The functions.
        inputs: Inputs of the definition.
        x: Points in float32 or float64.
        channel_dim: Axis of the channels, not negative.
    """
    if not is_ordinary([x, *inputs]):
        return evaluate(definition, x, inputs, channel_dim + 1, channel_dim)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *inputs)):
        return cast(Tensor, _Expand.apply(definition, channel_dim, x, *inputs))
    return _expand_values(definition, x, inputs, channel_dim)


class _Expand(torch.autograd.Function):
    """Values of a definition that keeps points and inputs."""

    @staticmethod
    def forward(ctx: Any, definition: Definition, channel_dim: int, x: Tensor, *inputs: Tensor) -> Tensor:
        ctx.definition, ctx.channel_dim = definition, channel_dim
        ctx.save_for_backward(x, *inputs)
        return _expand_values(definition, x, inputs, channel_dim)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, *inputs = ctx.saved_tensors
        wanted = ctx.needs_input_grad[2:]
        definition, dim = ctx.definition, ctx.channel_dim
        if torch.is_grad_enabled():

            def formula(x: Tensor, *inputs: Tensor) -> Tensor:
                return evaluate(definition, x, inputs, dim + 1, dim)

            return (None, None, *plain_gradients(formula, [x, *inputs], wanted, grad))
        points, order = _arrange(x, dim, grad.shape[dim + 1])
        inner = grad.movedim(dim + 1, dim) if order.channels_inside else grad
        to_x = torch.empty_like(points) if wanted[0] else None
        found = compute_gradients(definition, points, inputs, order, inner.contiguous(), wanted, to_x)
        return (None, None, to_x, *found)


def _arrange(x: Tensor, channel_dim: int, num_functions: int) -> tuple[Tensor, Arrangement]:
    """Return contiguous points, and the arrangement of their values."""
    channels = x.shape[channel_dim]
    inside = channel_dim == x.ndim - 1
    length = channels if inside else math.prod(x.shape[channel_dim + 1 :])
    return x.contiguous(), Arrangement(x.numel() // length, length, num_functions, channels, inside)


def _expand_values(definition: Definition, x: Tensor, inputs: Sequence[Tensor], channel_dim: int) -> Tensor:
    num_functions = count_functions(definition)
    points, order = _arrange(x, channel_dim, num_functions)
    dim = channel_dim + (not order.channels_inside)
    out = x.new_empty([*x.shape[:dim], num_functions, *x.shape[dim:]])
    compute_values(definition, points, inputs, order, out)
    return out.movedim(channel_dim, channel_dim + 1) if order.channels_inside else out
