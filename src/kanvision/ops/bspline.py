"""B-splines: Cox-de Boor recursion on any knots, and three closed forms on uniform knots.

Knots t_0 <= ... <= t_n carry K = n - k functions of degree k, B_j with support [t_j, t_{j+k+1}]. Cells are
half open, [t_i, t_{i+1}), but the last one is closed. Outside the knots, and at infinity, all functions are
0; the result for NaN is NaN for k >= 1.

Shapes: x (...), values (..., K, ...) with K inserted at `dim`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .recompute import recompute
from .stack_inplace import fill_slots

__all__ = [
    "EVALUATIONS",
    "bspline",
    "bspline_flops",
    "cox_de_boor",
    "legal_evaluations",
    "matrix_form",
    "uniform_knots",
]

EVALUATIONS = ("auto", "folded", "local", "matrix", "cox_de_boor")
"""Algorithms of B-splines.

folded: each function by truncated powers folded about its center, without an index; uniform knots, k >= 2
local: the k + 1 functions that are not 0 by the recursion within their cell, scattered; uniform knots
matrix: those by one matrix product with the powers of the place in the cell, scattered; uniform knots
cox_de_boor: all functions of all degrees up to k by the recursion; any knots
auto: folded for few functions of degrees 2 to 5, else matrix; cox_de_boor where the knots are not uniform
"""

# Up to this number of functions the folded form of all is faster than scattering the k + 1 nonzero ones. It
# writes one function after the other, which is slow if their axis is the innermost one.
_FOLD_AT_MOST, _FOLD_AT_MOST_INNERMOST = 20, 10
# The folded form loses about one digit in float32 for every three degrees, the others none.
_FOLD_UP_TO_DEGREE = 5


def uniform_knots(grid_size: int, degree: int, low: float, high: float) -> list[float]:
    """Return equidistant knots: `grid_size` cells on [low, high] and `degree` more on either side."""
    step = (high - low) / grid_size
    return [low + step * (i - degree) for i in range(grid_size + 2 * degree + 1)]


def bspline(
    x: Tensor, knots: Tensor, degree: int, dim: int, *, uniform: bool, evaluation: str = "auto"
) -> Tensor:
    """Return all B-splines of one degree, differentiable to any order; saves only `x` for backward.

    d/dx B_{j,k} = k (B_{j,k-1} / (t_{j+k} - t_j) - B_{j+1,k-1} / (t_{j+k+1} - t_{j+1}))

    Args:
        x: Points in float32 or float64.
        knots: (n + 1,) knots in increasing order; no gradient reaches them.
        degree: Degree, k >= 0.
        dim: Axis of the result with the K = n - k functions.
        uniform: True if the knots are equidistant, which closed forms need; not checked.
        evaluation: One of `EVALUATIONS`, legal for these knots and this degree (`legal_evaluations`).

    Returns:
        Shape of `x` with K inserted at `dim`.
    """
    if not uniform or evaluation == "cox_de_boor":
        return recompute(_AnyKnots(degree, dim), x, knots)
    num_cells = knots.numel() - 1
    # Knots at the ends of the domain are smaller than the outermost ones, with smaller rounding errors.
    ends = min(degree, (num_cells - 1) // 2)
    low, high = knots[ends], knots[num_cells - ends]
    step = (high - low) / (num_cells - 2 * ends)
    if evaluation == "auto":
        evaluation = _quickest(degree, num_cells - degree, innermost=dim == x.ndim)
    return recompute(_UniformKnots(degree, num_cells, dim, evaluation), x, (low + high) / 2, step)


def _quickest(degree: int, num_basis: int, innermost: bool) -> str:
    most = _FOLD_AT_MOST_INNERMOST if innermost else _FOLD_AT_MOST
    return "folded" if 2 <= degree <= _FOLD_UP_TO_DEGREE and num_basis <= most else "matrix"


def bspline_flops(degree: int, num_basis: int, *, uniform: bool, evaluation: str = "auto") -> int:
    """Return the operations that evaluate all functions at one point; powers of two count as one.

    Cox-de Boor needs 7 for every function of every degree from 1 to k; the other algorithms need 8 to find
    the cell, or 2 to scale x, and those of their formulas. "auto" is counted as the algorithm that it selects
    if the axis of the functions is not the innermost one.

    Args:
        degree: Degree, k.
        num_basis: Number of basis functions, K.
        uniform: As in `bspline`.
        evaluation: As in `bspline`.
    """
    if not uniform or evaluation == "cox_de_boor":
        return 7 * sum(num_basis + degree - q for q in range(1, degree + 1)) if degree else 3 * num_basis
    if evaluation == "auto":
        evaluation = _quickest(degree, num_basis, innermost=False)
    if evaluation == "folded" and degree >= 2:
        terms = math.ceil((degree + 1) / 2)
        return 2 + num_basis * (4 + terms * (4 + _num_products(degree)))
    if evaluation == "matrix":
        return 8 + 2 * degree * (degree + 1)
    return 8 + 3 * degree * (degree + 1)


def _num_products(power: int) -> int:
    """Return the number of products that `_powered` takes."""
    return power.bit_length() + power.bit_count() - 2


def legal_evaluations(degree: int, uniform: bool) -> tuple[str, ...]:
    """Return the `EVALUATIONS` that compute B-splines of this degree on uniform, or on any, knots."""
    if not uniform:
        return "auto", "cox_de_boor"
    # Steps and kinks need the one-sided convention of the cells, which folding does not keep.
    return tuple(name for name in EVALUATIONS if name != "folded" or degree >= 2)


def cox_de_boor(x: Tensor, knots: Tensor, degree: int, dim: int) -> Tensor:
    """Return all B-splines by the Cox-de Boor recursion under plain autograd, for any knots.

    B_{i,0} = 1 on [t_i, t_{i+1}), else 0
    B_{i,q} = (x - t_i) / (t_{i+q} - t_i) B_{i,q-1} + (t_{i+q+1} - x) / (t_{i+q+1} - t_{i+1}) B_{i+1,q-1}

    A quotient with equal knots is 0. Arguments and result as in `bspline`.
    """
    shape = [1] * (x.ndim + 1)
    shape[dim] = -1
    t = knots.to(x.dtype).view(shape)
    # Far outside, a basis value of 0 times infinity would be NaN.
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
    """Values of all functions on uniform knots with spacing `step` and midpoint `origin`.

    Positions are in cells from the middle, s = (x - origin) / step, which keeps most digits.
    """

    degree: int
    num_cells: int
    dim: int
    evaluation: str

    @property
    def num_basis(self) -> int:
        return self.num_cells - self.degree

    @property
    def folds(self) -> bool:
        # The derivatives of folded functions reach the degrees that cannot be folded.
        return self.evaluation == "folded" and self.degree >= 2

    def cardinal(self, s: Tensor, j: int) -> Tensor:
        """Return B_j at s, folded about its center."""
        half = (self.degree + 1) / 2
        return _cardinal((s - (j + half - self.num_cells / 2)).abs_().neg_().add_(half), self.degree)

    def local(self, s: Tensor, *, derivative: bool = False) -> list[tuple[Tensor, Tensor]]:
        """Return index and value (or derivative in s) of the k + 1 functions that are nonzero at s."""
        weigh = _matrix_weights if self.evaluation == "matrix" else _recursive_weights
        return _local(s, self.degree, self.num_cells, weigh, derivative)

    def values(self, x: Tensor, origin: Tensor, step: Tensor) -> Tensor:
        s = (x - origin) / step
        if self.folds:
            return fill_slots(x, self.num_basis, self.dim, lambda j: self.cardinal(s, j))
        out = x.new_zeros([*x.shape[: self.dim], self.num_basis, *x.shape[self.dim :]])
        for index, weight in self.local(s):
            out.scatter_add_(self.dim, index.unsqueeze(self.dim), weight.unsqueeze(self.dim))
        return out

    def pullback(
        self, needs: tuple[bool, ...], grad: Tensor, x: Tensor, origin: Tensor, step: Tensor
    ) -> tuple[Tensor | None, None, None]:
        return (recompute(_UniformSlope(self), x, grad, origin, step) if needs[0] else None), None, None


class _UniformSlope(NamedTuple):
    """Derivative sum_j maps_j dB_j/dx with dB_{j,k}/dx = (B_{j,k-1} - B_{j+1,k-1}) / h."""

    spline: _UniformKnots

    def values(self, x: Tensor, maps: Tensor, origin: Tensor, step: Tensor) -> Tensor:
        degree, dim = self.spline.degree, self.spline.dim
        s = (x - origin) / step
        total = torch.zeros_like(s)
        if degree == 0:
            return total
        lower = self.spline._replace(degree=degree - 1)
        if not lower.folds:
            for index, weight in self.spline.local(s, derivative=True):
                total.addcmul_(maps.gather(dim, index.unsqueeze(dim)).squeeze(dim), weight)
            return total / step
        # One difference of neighbors at a time: a tensor of all would cost more than the rest of this
        # function.
        slots = maps.unbind(dim)
        for j in range(len(slots) + 1):
            if j == 0:
                height = slots[0]
            elif j == len(slots):
                height = -slots[-1]
            else:
                height = slots[j] - slots[j - 1]
            total.addcmul_(height, lower.cardinal(s, j))
        return total / step

    def pullback(
        self, needs: tuple[bool, ...], grad: Tensor, x: Tensor, maps: Tensor, origin: Tensor, step: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None]:
        degree, dim = self.spline.degree, self.spline.dim
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
    """Return maps_i - maps_{i-1} for i = 0 ... K, with 0 beyond both ends."""
    edge = torch.zeros_like(maps.narrow(dim, 0, 1))
    return torch.cat([maps, edge], dim) - torch.cat([edge, maps], dim)


def _cardinal(depth: Tensor, degree: int) -> Tensor:
    """Return a function of degree k >= 2 `depth` cells inside its support, by truncated powers.

    B = sum_{m < (k+1)/2} (-1)^m C(k+1, m) relu(depth - m)^k / k!

    Summed over all m <= k + 1, not folded about the center, all digits would be lost in float32 by
    cancellation for k near 10. The differences depth - m are exact, so that their powers cancel correctly.
    """
    total: Tensor | None = None
    for m in range(math.ceil((degree + 1) / 2)):
        term = _powered((depth - m).relu_(), degree)
        factor = (-1) ** m * math.comb(degree + 1, m) / math.factorial(degree)
        total = term.mul_(factor) if total is None else total.add_(term, alpha=factor)
    assert total is not None
    return total


def _powered(x: Tensor, power: int) -> Tensor:
    """Raise x to a power in place by multiplication; `pow` uses logarithms from the fourth power on."""
    if power <= 3:
        return x.pow_(power)
    square = x.square()
    return _powered(square, power // 2) if power % 2 == 0 else x.mul_(_powered(square, power // 2))


def _local(
    s: Tensor,
    degree: int,
    num_cells: int,
    weigh: Callable[[Tensor, int, bool], list[Tensor]],
    derivative: bool,
) -> list[tuple[Tensor, Tensor]]:
    """Return index and value (or derivative in s) of the k + 1 nonzero functions s cells from the middle.

    `weigh` returns w_0 ... w_k for the position u in the cell; w_r belongs to the function `cell - k + r`.
    Functions beyond both ends are returned with value 0 at a legal index.
    """
    # The last cell contains its end, even if that is rounded up.
    outside = s.abs() > num_cells * (0.5 + torch.finfo(s.dtype).eps)
    # NaN is assigned to a legal cell; its position u is NaN, and so are its values.
    cell = torch.where(s.isnan() | outside, 0, s + num_cells / 2).floor().clamp_(0, num_cells - 1)
    weights = weigh(s - (cell - num_cells / 2), degree, derivative)
    first = cell.long() - degree
    last = num_cells - degree - 1
    found = []
    for r, weight in enumerate(weights):
        index = first + r
        beyond = outside | (index < 0) | (index > last)
        found.append((index.clamp_(0, last), weight.masked_fill(beyond, 0)))
    return found


def _recursive_weights(u: Tensor, degree: int, derivative: bool) -> list[Tensor]:
    """Apply Cox-de Boor within a cell, w_r <- ((u + d - r) w_{r-1} + (1 - u + r) w_r) / d, d = 1 ... k.

    The derivative is w_{r-1} - w_r of degree k - 1.
    """
    weights = [torch.ones_like(u)]
    for d in range(1, degree + 1):
        below = [None, *weights]  # w_{r-1}
        above = [*weights, None]  # w_r
        if derivative and d == degree:
            return [
                _sum(low, None if high is None else -high) for low, high in zip(below, above, strict=True)
            ]
        weights = [
            _sum(
                None if low is None else (u + (d - r)) * low,
                None if high is None else (1 + r - u) * high,
            )
            / d
            for r, (low, high) in enumerate(zip(below, above, strict=True))
        ]
    return weights


def _matrix_weights(u: Tensor, degree: int, derivative: bool) -> list[Tensor]:
    """Return (1, u, ..., u^k) M with M of `matrix_form`, or (0, 1, ..., k u^{k-1}) M.

    The product is computed by Horner's scheme for each column: a matrix product would round to TensorFloat32
    if that is enabled.
    """
    matrix = matrix_form(degree)
    weights = []
    for r in range(degree + 1):
        column = [row[r] for row in matrix]
        if derivative:
            column = [power * entry for power, entry in enumerate(column)][1:]
        total = torch.full_like(u, column[-1])
        for entry in reversed(column[:-1]):
            total = total.mul_(u).add_(entry)
        weights.append(total)
    return weights


def matrix_form(degree: int) -> list[list[float]]:
    """Return the matrix M of uniform B-splines, rows by power of the position in a cell, columns by function.

    M_ij = C(k, k - i) / k! sum_{s=j}^{k} (-1)^{s-j} C(k + 1, s - j) (k - s)^{k-i}, with 0^0 = 1. Exact.
    """
    k = degree
    return [
        [
            math.comb(k, k - i)
            * sum((-1) ** (s - j) * math.comb(k + 1, s - j) * (k - s) ** (k - i) for s in range(j, k + 1))
            / math.factorial(k)
            for j in range(k + 1)
        ]
        for i in range(k + 1)
    ]


def _sum(left: Tensor | None, right: Tensor | None) -> Tensor:
    if left is None or right is None:
        total = right if left is None else left
        assert total is not None
        return total
    return left + right
