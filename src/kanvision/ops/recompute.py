"""Autograd function for closed-form derivatives that saves inputs only, never intermediate values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

import torch
from torch import Tensor

__all__ = ["Formula", "recompute"]


class Formula(Protocol):
    """Function with an explicit derivative; implementations are immutable tuples of plain constants."""

    @property
    def values(self) -> Callable[..., Tensor]:
        """Map (x, *parameters) to values; runs without autograd and may work in place on temporaries."""

    @property
    def pullback(self) -> Callable[..., tuple[Tensor | None, ...]]:
        """Map (needs, grad, x, *parameters) to gradients of (x, *parameters), None where not needed.

        Uses only differentiable operations, because second derivatives differentiate it.
        """


class _Recompute(torch.autograd.Function):
    @staticmethod
    def forward(formula: Formula, x: Tensor, *parameters: Tensor) -> Tensor:
        return formula.values(x, *parameters)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        formula, *tensors = inputs
        ctx.formula = formula
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        return (None, *ctx.formula.pullback(tuple(ctx.needs_input_grad[1:]), grad, *ctx.saved_tensors))


def recompute(formula: Formula, x: Tensor, *parameters: Tensor) -> Tensor:
    """Evaluate `formula.values(x, *parameters)`; saves only its arguments for the backward pass.

    A basis has K values per input, and plain autograd would save several tensors of that size; recomputing
    them costs a few elementwise operations. Supports any order of differentiation that `pullback` supports,
    under torch.compile, torch.export and on the meta device.
    """
    if not torch.is_grad_enabled():
        return formula.values(x, *parameters)
    # torch.compile mistakes the context for an argument where nothing needs a gradient (torch 2.14).
    if torch.compiler.is_compiling() and not any(tensor.requires_grad for tensor in (x, *parameters)):
        return formula.values(x, *parameters)
    return cast(Tensor, _Recompute.apply(formula, x, *parameters))
