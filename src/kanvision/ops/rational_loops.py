"""Group rational by generated loops, in float32 for contiguous tensors on a CPU.

Powers of moderate inputs fit float32; other inputs, and NaN, are left to `rational_closed`.

Legend: D channels, G groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from kanvision.expansion.arrangement import Arrangement
from kanvision.expansion.build import get_obstacle
from kanvision.expansion.define import Definition, Scalar, Vocabulary
from kanvision.expansion.elementary import sum_powers
from kanvision.expansion.execute import compute_gradients, compute_values

__all__ = ["are_loops_usable", "loop_gradients", "loop_values"]

# Inputs and coefficients up to here; a degree up to 6 then keeps the square of a denominator finite.
_LARGEST_INPUT = 100.0
_LARGEST_COEFFICIENT = 1e4
_HIGHEST_DEGREE = 6


def are_loops_usable(x: Tensor, numerator: Tensor, denominator: Tensor, dim: int) -> bool:
    """Return True if the loops serve these tensors."""
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.bfloat16, torch.float16)
        and numerator.dtype is denominator.dtype is torch.float32
        and (x.is_contiguous() or x.movedim(dim, -1).is_contiguous())
        and x.numel() > 0
        and max(numerator.shape[1] - 1, denominator.shape[1]) <= _HIGHEST_DEGREE
        and not get_obstacle()
        and _is_bounded(numerator, _LARGEST_COEFFICIENT)
        and _is_bounded(denominator, _LARGEST_COEFFICIENT)
        and _is_bounded(x, _LARGEST_INPUT)
    )


def _is_bounded(x: Tensor, limit: float) -> bool:
    low, high = torch.aminmax(x)
    return bool(low >= -limit) and bool(high <= limit)  # False for NaN


def loop_values(x: Tensor, numerator: Tensor, denominator: Tensor, dim: int, form: str) -> Tensor:
    """Return F(x)."""
    points, axis = _move(x.float(), dim)
    out = torch.empty_like(points)
    definition, order = _define(points, numerator, denominator, axis, form)
    compute_values(definition, points, (numerator, denominator), order, out)
    return out.movedim(axis, dim).to(x.dtype)


def _move(x: Tensor, dim: int) -> tuple[Tensor, int]:
    """Return x with contiguous memory, and the axis of its channels: the last one if they are inside."""
    return (x, dim) if x.is_contiguous() else (x.movedim(dim, -1), x.ndim - 1)


def loop_gradients(
    grad: Tensor,
    x: Tensor,
    numerator: Tensor,
    denominator: Tensor,
    dim: int,
    form: str,
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """Return the gradients of x, a and b, None where not needed."""
    points, axis = _move(x.float(), dim)
    to_x = torch.empty_like(points) if needed[0] else None
    definition, order = _define(points, numerator, denominator, axis, form)
    grads = grad.float().movedim(dim, axis).contiguous()
    inputs = (numerator, denominator)
    others = compute_gradients(definition, points, inputs, order, grads, tuple(needed), to_x)
    return [None if to_x is None else to_x.movedim(axis, dim).to(x.dtype), *others]


def _define(
    x: Tensor, numerator: Tensor, denominator: Tensor, dim: int, form: str
) -> tuple[Definition, Arrangement]:
    """Return the definition, and the arrangement: a row has the points of a group."""
    groups = max(numerator.shape[0], denominator.shape[0])
    length = math.prod(x.shape[dim:]) // groups
    sizes = numerator.shape[1], denominator.shape[1]
    order = Arrangement(x.numel() // length, length, 1, groups, False)
    return Definition(_divide, sizes, (form,)), order


def _divide(
    m: Vocabulary, x: Scalar, numerator: Sequence[Scalar], denominator: Sequence[Scalar], form: str
) -> list[Scalar]:
    """Return P(x) / Q(x)."""
    if form == "kernel":
        r, rates = _magnitude(m, x), [_magnitude(m, rate) for rate in denominator]
        return [sum_powers(numerator, x) / (1 + r * sum_powers(rates, r))]
    return [sum_powers(numerator, x) / (1 + _magnitude(m, x * sum_powers(denominator, x)))]


def _magnitude(m: Vocabulary, x: Scalar) -> Scalar:
    """Return |x| with slope +1 at zero."""
    return m.select(m.less(x, 0.0), -x, x)
