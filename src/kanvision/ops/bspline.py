"""B-spline bases: Cox-de Boor on any knots, and closed forms on uniform knots.

Knots t_0 <= ... <= t_n carry K = n - k functions of degree k, B_j with support [t_j, t_{j+k+1}]. Cells are
half open, [t_i, t_{i+1}), but the last one is closed. Outside the knots, and at infinity, all functions are
0; NaN gives NaN for k >= 1.

Shapes: x (...), values (..., K, ...) with K inserted at `dim`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .recompute import recompute
from .slots import fill_slots

__all__ = ["bspline", "cox_de_boor", "uniform_knots"]

# Up to so many functions evaluating all of them by the folded form beats finding the k + 1 that are not zero.
_FOLD_AT_MOST = 20


def uniform_knots(grid_size: int, degree: int, low: float, high: float) -> list[float]:
    """Equidistant knots: `grid_size` cells on [low, high] and `degree` more on either side."""
    step = (high - low) / grid_size
    return [low + step * (i - degree) for i in range(grid_size + 2 * degree + 1)]


def bspline(x: Tensor, knots: Tensor, degree: int, dim: int, *, uniform: bool) -> Tensor:
    """All B-splines of one degree; keeps only `x` for the backward pass and is differentiable to any order.

    d/dx B_{j,k} = k (B_{j,k-1} / (t_{j+k} - t_j) - B_{j+1,k-1} / (t_{j+k+1} - t_{j+1}))

    Args:
        x: float32 or float64 points.
        knots: (n + 1,) knots in increasing order; no gradient reaches them.
        degree: k >= 0.
        dim: axis of the result that holds the K = n - k functions.
        uniform: the knots are equidistant, so that closed forms hold. Not checked: that would need a look at
            the values of the knots.

    Returns:
        Shape of `x` with K inserted at `dim`.
    """
    if not uniform:
        return recompute(_AnyKnots(degree, dim), x, knots)
    num_cells = knots.numel() - 1
    step = (knots[-1] - knots[0]) / num_cells
    return recompute(_UniformKnots(degree, num_cells, dim), x, knots[0], step)


def cox_de_boor(x: Tensor, knots: Tensor, degree: int, dim: int) -> Tensor:
    """All B-splines by the recursion of Cox and de Boor; the definition, for any knots and plain autograd.

    B_{i,0} = 1 on [t_i, t_{i+1}), else 0
    B_{i,q} = (x - t_i) / (t_{i+q} - t_i) B_{i,q-1} + (t_{i+q+1} - x) / (t_{i+q+1} - t_{i+1}) B_{i+1,q-1}

    A quotient with equal knots counts as 0. Arguments and result as of `bspline`.
    """
    shape = [1] * (x.ndim + 1)
    shape[dim] = -1
    t = knots.to(x.dtype).view(shape)
    # Far outside, x would meet a basis value of 0 as 0 * inf.
    x = x.clamp(knots[0] - 1, knots[-1] + 1).unsqueeze(dim)

    def cut(start: int, stop: int) -> Tensor:
        return t.narrow(dim, start, stop - start)

    n = knots.numel() - 1
    left, right = cut(0, n), cut(1, n + 1)
    end = cut(n, n + 1)
    closing = (x == end) & (right == end) & (left < right)
    values = (((x >= left) & (x < right)) | closing).to(x.dtype)
    for q in range(1, degree + 1):
        count = n - q
        rise = (x - cut(0, count)) * _inverse(cut(q, q + count) - cut(0, count))
        fall = (cut(q + 1, n + 1) - x) * _inverse(cut(q + 1, n + 1) - cut(1, 1 + count))
        values = rise * values.narrow(dim, 0, count) + fall * values.narrow(dim, 1, count)
    return values


def _inverse(width: Tensor) -> Tensor:
    return torch.where(width > 0, 1 / width.clamp_min(torch.finfo(width.dtype).tiny), 0)


class _AnyKnots(NamedTuple):
    degree: int
    dim: int

    def values(self, x: Tensor, knots: Tensor) -> Tensor:
        return cox_de_boor(x, knots, self.degree, self.dim)

    def pullback(
        self, needs: tuple[bool, ...], grad: Tensor, x: Tensor, knots: Tensor
    ) -> tuple[Tensor | None, None]:
        if self.degree == 0 or not needs[0]:
            return (torch.zeros_like(x) if needs[0] else None), None
        count = knots.numel() - self.degree
        widths = knots.narrow(0, self.degree, count) - knots.narrow(0, 0, count)
        shape = [1] * grad.ndim
        shape[self.dim] = -1
        rates = (self.degree * _inverse(widths)).to(x.dtype).view(shape)
        slopes = _differences(grad, self.dim) * rates
        return (slopes * cox_de_boor(x, knots, self.degree - 1, self.dim)).sum(self.dim), None


class _UniformKnots(NamedTuple):
    """Values of all functions on uniform knots with first knot `origin` and spacing `step`."""

    degree: int
    num_cells: int
    dim: int

    @property
    def num_basis(self) -> int:
        return self.num_cells - self.degree

    @property
    def folds(self) -> bool:
        # Steps and kinks (k < 2) need the one-sided convention of the cells, which folding would lose.
        return self.degree >= 2 and self.num_basis <= _FOLD_AT_MOST

    def values(self, x: Tensor, origin: Tensor, step: Tensor) -> Tensor:
        t = (x - origin) / step
        if self.folds:
            return fill_slots(x, self.num_basis, self.dim, lambda j: _cardinal(t, j, self.degree))
        out = x.new_zeros([*x.shape[: self.dim], self.num_basis, *x.shape[self.dim :]])
        for index, weight in _local(t, self.degree, self.num_cells):
            out.scatter_add_(self.dim, index.unsqueeze(self.dim), weight.unsqueeze(self.dim))
        return out

    def pullback(
        self, needs: tuple[bool, ...], grad: Tensor, x: Tensor, origin: Tensor, step: Tensor
    ) -> tuple[Tensor | None, None, None]:
        return (recompute(_UniformSlope(self), x, grad, origin, step) if needs[0] else None), None, None


class _UniformSlope(NamedTuple):
    """sum_j maps_j dB_j/dx with dB_{j,k}/dx = (B_{j,k-1} - B_{j+1,k-1}) / h; has derivatives of its own."""

    spline: _UniformKnots

    def values(self, x: Tensor, maps: Tensor, origin: Tensor, step: Tensor) -> Tensor:
        degree, num_cells, dim = self.spline
        t = (x - origin) / step
        total = torch.zeros_like(t)
        if degree == 0:
            return total
        if not self.spline._replace(degree=degree - 1).folds:
            for index, weight in _local(t, degree, num_cells, derivative=True):
                total.addcmul_(maps.gather(dim, index.unsqueeze(dim)).squeeze(dim), weight)
            return total / step
        # Neighbours' differences one by one: a tensor of all of them would cost more than all else here.
        slots = maps.unbind(dim)
        for j in range(len(slots) + 1):
            if j == 0:
                height = slots[0]
            elif j == len(slots):
                height = -slots[-1]
            else:
                height = slots[j] - slots[j - 1]
            total.addcmul_(height, _cardinal(t, j, degree - 1))
        return total / step

    def pullback(
        self, needs: tuple[bool, ...], grad: Tensor, x: Tensor, maps: Tensor, origin: Tensor, step: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None]:
        degree, _, dim = self.spline
        if degree == 0:
            return (
                (torch.zeros_like(x) if needs[0] else None),
                (torch.zeros_like(maps) if needs[1] else None),
                None,
                None,
            )
        lower = self.spline._replace(degree=degree - 1)
        grad_x, grad_maps = None, None
        if needs[0]:
            grad_x = grad / step * recompute(_UniformSlope(lower), x, _differences(maps, dim), origin, step)
        if needs[1]:
            grad_maps = -(grad / step).unsqueeze(dim) * recompute(lower, x, origin, step).diff(dim=dim)
        return grad_x, grad_maps, None, None


def _differences(maps: Tensor, dim: int) -> Tensor:
    """maps_i - maps_{i-1} for i = 0 ... K, with 0 beyond both ends."""
    edge = torch.zeros_like(maps.narrow(dim, 0, 1))
    return torch.cat([maps, edge], dim) - torch.cat([edge, maps], dim)


def _cardinal(t: Tensor, j: int, degree: int) -> Tensor:
    """B_j at t = (x - t_0) / h for k >= 2, by truncated powers folded about the centre of the function.

    B_j = sum_{m < (k+1)/2} (-1)^m C(k+1, m) relu((k+1)/2 - m - |tau|)^k / k!, tau = t - j - (k+1)/2

    Unfolded, the sum runs over all m <= k + 1 and loses all digits in float32 by cancellation for k near 10.
    """
    half = (degree + 1) / 2
    distance = (t - (j + half)).abs_()
    total: Tensor | None = None
    for m in range(math.ceil(half)):
        term = (half - m - distance).relu_().pow_(degree)
        factor = (-1) ** m * math.comb(degree + 1, m) / math.factorial(degree)
        total = term.mul_(factor) if total is None else total.add_(term, alpha=factor)
    assert total is not None
    return total


def _local(
    t: Tensor, degree: int, num_cells: int, *, derivative: bool = False
) -> list[tuple[Tensor, Tensor]]:
    """Index and value (or derivative in t) of the k + 1 functions that are not zero at t = (x - t_0) / h.

    With u the place in the cell, the recursion of Cox and de Boor on uniform knots is
    w_r <- ((u + d - r) w_{r-1} + (1 - u + r) w_r) / d for d = 1 ... k, r = 0 ... d, and w_r belongs to the
    function `cell - k + r`. Its derivative is w_{r-1} - w_r of degree k - 1. Functions beyond both ends are
    reported with value 0 at a legal index.
    """
    outside = (t < 0) | (t > num_cells)
    # NaN lands in some legal cell; its place u stays NaN, and so do its values.
    cell = torch.where(t.isnan() | outside, 0, t).floor().clamp_max_(num_cells - 1)
    u = t - cell
    weights = [torch.ones_like(t)]
    for d in range(1, degree + 1):
        below = [None, *weights]  # w_{r-1}
        above = [*weights, None]  # w_r
        if derivative and d == degree:
            weights = [
                _sum(low, None if high is None else -high) for low, high in zip(below, above, strict=True)
            ]
            break
        weights = [
            _sum(
                None if low is None else (u + (d - r)) * low,
                None if high is None else (1 + r - u) * high,
            )
            / d
            for r, (low, high) in enumerate(zip(below, above, strict=True))
        ]
    first = cell.long() - degree
    last = num_cells - degree - 1
    found = []
    for r, weight in enumerate(weights):
        index = first + r
        beyond = outside | (index < 0) | (index > last)
        found.append((index.clamp_(0, last), weight.masked_fill(beyond, 0)))
    return found


def _sum(left: Tensor | None, right: Tensor | None) -> Tensor:
    if left is None or right is None:
        total = right if left is None else left
        assert total is not None
        return total
    return left + right
