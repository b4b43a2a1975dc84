"""Group-wise safe Pade rational of KAT ("Kolmogorov-Arnold Transformer", arXiv 2409.10594).

Per channel c of group k(c) = floor(c / (D / G)), numerator degree m, denominator degree n (KAT: 5 and 4),
F(x) = P(x) / Q(x) with

    P(x) = a_0 + a_1 x + ... + a_m x^m
    Q(x) = 1 + |b_1||x| + ... + |b_n||x|^n      form "kernel"
    Q(x) = 1 + |b_1 x + ... + b_n x^n|          form "paper"

Q >= 1, so F has no poles. The published GPU kernels and weights use the first form, which differs from that
of the paper.

Signs at the kinks: s(x) = -1 if x < 0 else +1 and sigma(b) = -1 if b < 0 else +1. With sigma(0) = +1 the
denominator of the identity (b = 0) has a gradient from the first step; with torch.sign it would remain zero.

The operator `torch.ops.kanvision.rational` has four implementations: kernels in Triton on a GPU
(`rational_fused`), generated loops for moderate inputs on a CPU (`rational_loops`), closed forms in chunks
that fit its cache for all others (`rational_closed`), and the plain formula `rational_reference`, the test
oracle of all, which also computes second derivatives. Tracers for fusion or export see the closed forms as
ordinary tensor operations.

Legend: D channels, G groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from kanvision.expansion.double_backward import plain_gradients

from .rational_closed import rational_gradients, rational_value
from .rational_fused import fused_rational, fused_rational_gradients, get_fusion_obstacle
from .rational_loops import are_loops_usable, loop_gradients, loop_values

__all__ = ["FORMS", "rational", "rational_reference"]

FORMS = ("kernel", "paper")


def rational(
    x: Tensor, numerator: Tensor, denominator: Tensor, channel_dim: int = -1, form: str = "kernel"
) -> Tensor:
    """Evaluate F(x) = P(x) / Q(x) with closed-form derivatives; saves only x for the backward pass.

    Half-precision inputs are computed in float32; the result has the dtype of x, also under autocast. If
    a monomial would overflow, P and Q are evaluated in homogeneous form (see `_Stretch` in
    `kanvision.ops.rational_closed`), so that the result for a finite x is the rounded F(x) and never
    inf / inf. Differentiable to any order; second derivatives use `rational_reference` and have no protection
    against overflow. Gradients are reproducible bit by bit on one device.

    Args:
        x: Any shape with D channels at `channel_dim`; floating point, any strides.
        numerator: (1, m + 1) shared by all groups or (G, m + 1); coefficients a_0 ... a_m.
        denominator: (1, n) or (G, n); coefficients b_1 ... b_n.
        channel_dim: Axis of x with the G contiguous blocks of channels.
        form: "kernel" or "paper".

    Returns:
        Tensor of the shape and dtype of x.

    Raises:
        ValueError: x is not floating point or has no such axis, the coefficients are not matrices of matching
            rows, D is not a multiple of G, or the form is not known.
    """
    dim = _checked_dim(x, numerator, denominator, channel_dim, form)
    if torch.compiler.is_compiling() and (
        torch.compiler.is_exporting() or _why_plain(x, numerator, denominator)
    ):
        return cast(Tensor, _Traced.apply(x, numerator, denominator, dim, form))
    return cast(Tensor, _rational(x, numerator, denominator, dim, form))


def rational_reference(
    x: Tensor, numerator: Tensor, denominator: Tensor, channel_dim: int = -1, form: str = "kernel"
) -> Tensor:
    """Evaluate F(x) = P(x) / Q(x) term by term under plain autograd: the test oracle of `rational`.

    Arguments, result, conventions and errors as in `rational`, without its protection against overflow.
    """
    dim = _checked_dim(x, numerator, denominator, channel_dim, form)
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    a = [_per_channel(c, wide, dim) for c in numerator.unbind(1)]
    b = [_per_channel(c, wide, dim) for c in denominator.unbind(1)]
    p = torch.zeros_like(wide)
    for i, a_i in enumerate(a):
        p = p + a_i * wide**i
    w = torch.zeros_like(wide)
    for j, b_j in enumerate(b, start=1):
        w = w + (_magnitude(b_j) * _magnitude(wide) ** j if form == "kernel" else b_j * wide**j)
    return (p / (1 + _magnitude(w))).to(x.dtype)


def _magnitude(x: Tensor) -> Tensor:
    """Return |x| with slope +1 at zero."""
    return x * torch.where(x < 0, -1.0, 1.0).to(x.dtype)


def _per_channel(coefficients: Tensor, x: Tensor, dim: int) -> Tensor:
    """Reshape (1 or G,) coefficients to broadcast against x."""
    spread = coefficients.repeat_interleave(x.shape[dim] // len(coefficients))
    return spread.to(x.dtype).view(-1, *(1,) * (x.dim() - 1 - dim))  # (D, 1, ...)


def _why_plain(x: Tensor, numerator: Tensor, denominator: Tensor) -> str:
    return "x is on no GPU" if not x.is_cuda else get_fusion_obstacle(x, numerator, denominator)


class _Traced(torch.autograd.Function):
    """Closed forms as ordinary operations, for compilers."""

    @staticmethod
    def forward(x: Tensor, numerator: Tensor, denominator: Tensor, dim: int, form: str) -> Tensor:
        return rational_value(x, numerator, denominator, dim, form)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.dim, ctx.form = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, numerator, denominator = ctx.saved_tensors
        needed = ctx.needs_input_grad[:3]
        found = rational_gradients(grads[0], x, numerator, denominator, ctx.dim, ctx.form, needed)
        return (*found, None, None)


def _compute(x: Tensor, numerator: Tensor, denominator: Tensor, dim: int, form: str) -> Tensor:
    if not get_fusion_obstacle(x, numerator, denominator):
        return fused_rational(x, numerator, denominator, dim, form)
    if are_loops_usable(x, numerator, denominator, dim):
        return loop_values(x, numerator, denominator, dim, form)
    return rational_value(x, numerator, denominator, dim, form)


def _compute_gradients(
    grad: Tensor,
    x: Tensor,
    numerator: Tensor,
    denominator: Tensor,
    dim: int,
    form: str,
    needed: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, a and b; empty tensors where not needed."""
    found: Sequence[Tensor | None]
    if not get_fusion_obstacle(x, numerator, denominator):
        found = fused_rational_gradients(grad, x, numerator, denominator, dim, form)
    elif are_loops_usable(x, numerator, denominator, dim):
        found = loop_gradients(grad, x, numerator, denominator, dim, form, needed)
    else:
        found = rational_gradients(grad, x, numerator, denominator, dim, form, needed)
    dx, da, db = (
        x.new_empty(0) if gradient is None or not need else gradient
        for gradient, need in zip(found, needed, strict=True)
    )
    return dx, da, db


def _allocate(x: Tensor, numerator: Tensor, denominator: Tensor, dim: int, form: str) -> Tensor:
    return torch.empty_like(x)


def _allocate_gradients(
    grad: Tensor,
    x: Tensor,
    numerator: Tensor,
    denominator: Tensor,
    dim: int,
    form: str,
    needed: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    dx, da, db = (
        torch.empty_like(t) if need else x.new_empty(0)
        for t, need in zip((x, numerator, denominator), needed, strict=True)
    )
    return dx, da, db


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """Save the arguments of the operator."""
    tensors = [value for value in inputs if isinstance(value, Tensor)]
    ctx.save_for_backward(*tensors)
    ctx.others = inputs[len(tensors) :]


def _first_derivative(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    needed = list(ctx.needs_input_grad[:3])
    found = _rational_backward(grad, *ctx.saved_tensors, *ctx.others, needed)
    return (*(g if need else None for g, need in zip(found, needed, strict=True)), None, None)


def _second_derivative(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
    """Differentiate the gradient by the plain formula, which can be differentiated again."""
    dim, form, needed = ctx.others
    higher = torch.is_grad_enabled()
    wanted = ctx.needs_input_grad[:4]
    with torch.enable_grad():
        # Aliases: each counts what depends on it directly, and not through the others.
        grad, x, numerator, denominator = (
            t.view_as(t) if higher and t.requires_grad else t.detach().requires_grad_()
            for t in ctx.saved_tensors
        )
        inputs = (x, numerator, denominator)
        formula = partial(rational_reference, channel_dim=dim, form=form)
        first = plain_gradients(formula, inputs, needed, grad)
        pairs = [(f, c) for f, c in zip(first, cotangents, strict=True) if f is not None and c is not None]
        leaves = [t for t, want in zip((grad, *inputs), wanted, strict=True) if want]
        second = iter(
            torch.autograd.grad(
                [f for f, _ in pairs],
                leaves,
                [c for _, c in pairs],
                create_graph=higher,
                allow_unused=True,
            )
        )
    return (*(next(second) if want else None for want in wanted), None, None, None)


def _compute_batch(
    info: Any, in_dims: Sequence[int | None], x: Tensor, numerator: Tensor, denominator: Tensor, *others: Any
) -> tuple[Tensor, int]:
    dim, form = others
    if in_dims[1] is None and in_dims[2] is None:
        assert in_dims[0] is not None
        return _rational(x.movedim(in_dims[0], 0), numerator, denominator, dim + 1, form), 0
    tensors = zip((x, numerator, denominator), in_dims[:3], strict=True)
    each = [[t] * info.batch_size if d is None else t.unbind(d) for t, d in tensors]
    return torch.stack([_rational(*own, dim, form) for own in zip(*each, strict=True)]), 0


# The decorator torch.library.custom_op looks through all loaded modules: 0.2 s of every start.
_LIBRARY: Any = torch.library.Library("kanvision", "DEF")  # type: ignore[no-untyped-call]
_TENSORS = "Tensor x, Tensor numerator, Tensor denominator"


def _register(schema: str, compute: Any, allocate: Any, derivative: Any) -> Any:
    """Define an operator with its result, its result without values, and its derivative."""
    name = schema.partition("(")[0]
    _LIBRARY.define(schema)
    _LIBRARY.impl(name, compute, "CompositeExplicitAutograd")
    _LIBRARY.impl(name, allocate, "Meta")
    torch.library.register_autograd(f"kanvision::{name}", derivative, setup_context=_keep, lib=_LIBRARY)
    return getattr(torch.ops.kanvision, name).default


_rational = _register(
    f"rational({_TENSORS}, int dim, str form) -> Tensor", _compute, _allocate, _first_derivative
)
_rational_backward = _register(
    f"rational_backward(Tensor grad, {_TENSORS}, int dim, str form, bool[] needed) -> "
    "(Tensor, Tensor, Tensor)",
    _compute_gradients,
    _allocate_gradients,
    _second_derivative,
)
torch.library.register_vmap("kanvision::rational", _compute_batch, lib=_LIBRARY)


def _checked_dim(x: Tensor, numerator: Tensor, denominator: Tensor, channel_dim: int, form: str) -> int:
    """Check all arguments and return channel_dim counted from the front."""
    if form not in FORMS:
        raise ValueError(f"form={form!r} is not known; legal values: {', '.join(FORMS)}")
    if not x.is_floating_point():
        raise ValueError(f"rational needs a floating point input, got {x.dtype}.")
    if not -x.dim() <= channel_dim < x.dim():
        raise ValueError(f"channel_dim={channel_dim} is not an axis of an input of shape {tuple(x.shape)}.")
    for name, coefficients, least in (("numerator", numerator, 2), ("denominator", denominator, 1)):
        if coefficients.dim() != 2 or coefficients.shape[1] < least:
            raise ValueError(
                f"{name} must have shape (1 or groups, at least {least}), got {tuple(coefficients.shape)}."
            )
    groups = max(numerator.shape[0], denominator.shape[0])
    for name, coefficients in (("numerator", numerator), ("denominator", denominator)):
        if coefficients.shape[0] not in (1, groups):
            raise ValueError(f"{name} has {coefficients.shape[0]} rows; legal: 1 or {groups}.")
    dim = channel_dim % x.dim()
    if x.shape[dim] % groups:
        raise ValueError(
            f"The {x.shape[dim]} channels at axis {channel_dim} of shape {tuple(x.shape)} "
            f"cannot be split into {groups} equal groups."
        )
    return dim
