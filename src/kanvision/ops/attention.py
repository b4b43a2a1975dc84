"""Softmax attention by torch's fused kernels, with second derivatives. Shapes: B batch, h heads, N tokens."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from kanvision.expansion.double_backward import plain_gradients

__all__ = ["softmax_attention"]


class _PlainSecondDerivative(torch.autograd.Function):
    """Identity of a fused result whose gradient uses the plain formula when it is differentiated again.

    A first backward pass uses the fused kernel at no additional cost.
    """

    @staticmethod
    def forward(out: Tensor, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        return out.view_as(out)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, q, k, v, ctx.scale = inputs
        ctx.save_for_backward(q, k, v)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        if not torch.is_grad_enabled():
            return grad, None, None, None, None
        formula = partial(_plain_attention, scale=ctx.scale)
        return None, *plain_gradients(formula, ctx.saved_tensors, ctx.needs_input_grad[1:4], grad), None


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Return softmax(scale q k^T) v, (B, h, N, D) each, with differentiable gradients.

    The fused kernels of torch have no second derivative, which gradient penalties need.
    """
    out = F.scaled_dot_product_attention(q, k, v, scale=scale)
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
    if traced or not out.requires_grad:
        return out
    return cast(Tensor, _PlainSecondDerivative.apply(out, q, k, v, scale))


def _plain_attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    return (scale * q @ k.mT).softmax(-1) @ v
