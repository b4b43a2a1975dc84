"""Differentiable gradients by the plain formula of an operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["plain_gradients"]


def plain_gradients(
    formula: Callable[..., Tensor], inputs: Sequence[Tensor | None], needed: Sequence[bool], grad: Tensor
) -> list[Tensor | None]:
    """Return the gradients of `formula(*inputs)`, differentiable again.

    Inputs may depend on each other, or be one tensor given twice: the graph around the operator adds
    gradients through other inputs and through `grad`.

    Args:
        formula: Function of the inputs that computes the operator in differentiable operations.
        inputs: Inputs of the operator.
        needed: True for each input that needs a gradient.
        grad: Gradient of the result.

    Returns:
        Gradient of each input that needs one, else None.
    """
    with torch.enable_grad():
        aliases = [None if t is None else t.view_as(t) for t in inputs]
        wanted = [t for t, need in zip(aliases, needed, strict=True) if need and t is not None]
        y = formula(*aliases)
        if not y.requires_grad:  # steps
            return [
                torch.zeros_like(t) if n and t is not None else None
                for t, n in zip(inputs, needed, strict=True)
            ]
        found = iter(
            torch.autograd.grad(y, wanted, grad, create_graph=True, allow_unused=True, materialize_grads=True)
        )
    return [next(found) if need else None for need in needed]
