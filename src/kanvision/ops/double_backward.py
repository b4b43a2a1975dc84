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

    Inputs may depend on each other, or be one tensor given twice: what goes through another input, or through
    `grad`, is for the graph around the operator to count.

    Args:
        formula: The operator in differentiable operations; gets the inputs.
        inputs: What it is called with.
        needed: Which of them want a gradient.
        grad: Of the result.

    Returns:
        A gradient where one is needed, else None.
    """
    with torch.enable_grad():
        aliases = [None if t is None else t.view_as(t) for t in inputs]
        wanted = [t for t, need in zip(aliases, needed, strict=True) if need and t is not None]
        found = iter(torch.autograd.grad(formula(*aliases), wanted, grad, create_graph=True))
    return [next(found) if need else None for need in needed]
