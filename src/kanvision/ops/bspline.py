"""B-splines as formulas over scalars: recursion on any knots, and three closed forms on uniform knots.

Knots t_0 <= ... <= t_n carry K = n - k functions of degree k, B_j with support [t_j, t_{j+k+1}]. Cells are
half open, [t_i, t_{i+1}), but the last one is closed. Outside the knots, and at infinity, all functions are
0; the result for NaN is NaN for k >= 1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import lru_cache

from kanvision.expansion.define import Definition, Scalar, Vocabulary

__all__ = [
    "EVALUATIONS",
    "define_bspline",
    "legal_evaluations",
    "matrix_form",
    "uniform_knots",
]

EVALUATIONS = ("auto", "folded", "local", "matrix", "cox_de_boor")
"""Algorithms of B-splines.

folded: each function by truncated powers folded about its center, without an index; uniform knots, k >= 2
local: the k + 1 functions that are not 0 by the recursion within their cell; uniform knots
matrix: those by one matrix product with the powers of the place in the cell; uniform knots
cox_de_boor: all functions of all degrees up to k by the recursion; any knots
auto: folded for degrees 2 to 5, else matrix; cox_de_boor where the knots are not uniform
"""

# The folded form loses about one digit in float32 for every three degrees, the others none.
_FOLD_UP_TO_DEGREE = 5
# Beyond the outermost knots by this many cells a point still counts as inside: knots are rounded to float32.
_ROUNDING = 2.0**-23


@lru_cache(maxsize=64)
def define_bspline(num_knots: int, degree: int, *, uniform: bool, evaluation: str = "auto") -> Definition:
    """Return the definition of all B-splines of one degree, whose input are the knots.

    Args:
        num_knots: Number of knots, n + 1.
        degree: Degree, k >= 0.
        uniform: True if the knots are equidistant, which closed forms need; not checked.
        evaluation: One of `EVALUATIONS`, legal for these knots and this degree (`legal_evaluations`).
    """
    chosen = _choose(degree, uniform, evaluation)
    formula = {"folded": _folded, "local": _local, "matrix": _matrix, "cox_de_boor": _cox_de_boor}[chosen]
    return Definition(formula, sizes=(num_knots,), settings=(degree,))


def _choose(degree: int, uniform: bool, evaluation: str) -> str:
    if not uniform:
        return "cox_de_boor"
    if evaluation != "auto":
        return evaluation
    return "folded" if 2 <= degree <= _FOLD_UP_TO_DEGREE else "matrix"


def _place(x: Scalar, knots: Sequence[Scalar], degree: int) -> Scalar:
    """Return x in cells from the middle of uniform knots, which keeps most digits."""
    num_cells = len(knots) - 1
    # Knots at the ends of the domain are smaller than the outermost ones, with smaller rounding errors.
    ends = min(degree, (num_cells - 1) // 2)
    low, high = knots[ends], knots[num_cells - ends]
    return (x - (low + high) * 0.5) * ((num_cells - 2 * ends) / (high - low))


def _folded(m: Vocabulary, x: Scalar, knots: Sequence[Scalar], degree: int) -> list[Scalar]:
    """Return all functions by truncated powers: a function is symmetric about its center.

    B = sum_{i < (k+1)/2} (-1)^i C(k+1, i) relu(depth - i)^k / k! with depth the distance from the nearer end
    of the support, in cells. Summed over all i <= k + 1, not folded, all digits would be lost in float32 by
    cancellation for k near 10. The differences depth - i are exact, so that their powers cancel correctly.
    """
    s = _place(x, knots, degree)
    num_cells, half = len(knots) - 1, (degree + 1) / 2
    values = []
    for j in range(num_cells - degree):
        depth = half - m.abs(s - (j + half - num_cells / 2))
        total = None
        for i in range(math.ceil(half)):
            factor = (-1) ** i * math.comb(degree + 1, i) / math.factorial(degree)
            term = _power(m.relu(depth - i if i else depth), degree) * factor
            total = term if total is None else total + term
        values.append(total)
    return values


def _power(x: Scalar, power: int) -> Scalar:
    """Return x^power by multiplication."""
    if power == 1:
        return x
    half = _power(x * x, power // 2)
    return half if power % 2 == 0 else x * half


def _local(m: Vocabulary, x: Scalar, knots: Sequence[Scalar], degree: int) -> list[Scalar]:
    """Return all functions, those of the cell of x by the recursion within it."""
    return _weigh_cells(m, x, knots, degree, _recursive_weights)


def _matrix(m: Vocabulary, x: Scalar, knots: Sequence[Scalar], degree: int) -> list[Scalar]:
    """Return all functions, those of the cell of x by powers of the place in it."""
    return _weigh_cells(m, x, knots, degree, _matrix_weights)


def _weigh_cells(
    m: Vocabulary,
    x: Scalar,
    knots: Sequence[Scalar],
    degree: int,
    weigh: Callable[[Scalar, int], list[Scalar]],
) -> list[Scalar]:
    """Return all functions from the weights w_0 ... w_k of the place in a cell.

    w_r belongs to the function `cell - k + r`; all others are 0.
    """
    num_cells = len(knots) - 1
    s = m.clamp(_place(x, knots, degree), -num_cells, num_cells)  # keeps 0 * inf out of derivatives
    place, last = s + num_cells / 2, num_cells - 1
    # NaN is assigned to the first cell; its place u is NaN, and so are its values.
    upper = m.select(m.less(last, place), last, 0.0)
    cell = m.select(m.less(place, num_cells), m.select(m.less(place, 0.0), 0.0, m.floor(place)), upper)
    weights = weigh(s - (cell - num_cells / 2), degree)
    # The last cell contains its end, even if that is rounded up.
    outside = m.less(num_cells * (0.5 + _ROUNDING), m.abs(s))
    cell = m.select(outside, -2.0 * num_cells, cell)
    values = []
    for j in range(num_cells - degree):
        value: Scalar = 0.0
        for r, weight in enumerate(weights):
            value = m.select(m.less(m.abs(cell - (j + degree - r)), 0.5), weight, value)
        values.append(value)
    return values


def _recursive_weights(u: Scalar, degree: int) -> list[Scalar]:
    """Apply Cox-de Boor within a cell, w_r <- ((u + d - r) w_{r-1} + (1 - u + r) w_r) / d, d = 1 ... k."""
    weights: list[Scalar] = [1.0]
    for d in range(1, degree + 1):
        rising = [(u + (d - r)) * weight for r, weight in enumerate(weights, start=1)]  # from w_{r-1}
        falling = [(1 + r - u) * weight for r, weight in enumerate(weights)]
        middle = [up + down for up, down in zip(rising[:-1], falling[1:], strict=True)]
        weights = [weight / d for weight in (falling[0], *middle, rising[-1])]
    return weights


def _matrix_weights(u: Scalar, degree: int) -> list[Scalar]:
    """Return (1, u, ..., u^k) M with M of `matrix_form`, by Horner's scheme for each column."""
    matrix = matrix_form(degree)
    weights = []
    for r in range(degree + 1):
        total: Scalar = matrix[-1][r]
        for row in reversed(matrix[:-1]):
            total = total * u + row[r]
        weights.append(total)
    return weights


def _cox_de_boor(m: Vocabulary, x: Scalar, knots: Sequence[Scalar], degree: int) -> list[Scalar]:
    """Return all functions by the Cox-de Boor recursion.

    B_{i,0} = 1 on [t_i, t_{i+1}), else 0
    B_{i,q} = (x - t_i) / (t_{i+q} - t_i) B_{i,q-1} + (t_{i+q+1} - x) / (t_{i+q+1} - t_{i+1}) B_{i+1,q-1}

    A quotient with equal knots is 0.
    """
    first, end = knots[0], knots[-1]
    # Far outside, a value of 0 times infinity would be NaN.
    x = m.clamp(x, first - 1, end + 1)
    beyond = m.less(end, x)

    def inverse(width: Scalar) -> Scalar:
        return m.select(m.less(0.0, width), 1 / width, 0.0)

    values: list[Scalar] = []
    for left, right in itertools.pairwise(knots):
        # 1 at the end of the knots for the last cell that is not empty
        closing = m.select(m.less(right, end), 0.0, m.select(m.less(left, right), 1.0, 0.0))
        above = m.select(m.less(x, right), 1.0, m.select(beyond, 0.0, closing))
        values.append(m.select(m.less(x, left), 0.0, above))
    for q in range(1, degree + 1):
        rises = [(x - left) * inverse(right - left) for left, right in zip(knots, knots[q:], strict=False)]
        falls = [(right - x) * inverse(right - left) for left, right in zip(knots, knots[q:], strict=False)]
        values = [rises[i] * values[i] + falls[i + 1] * values[i + 1] for i in range(len(values) - 1)]
    return values


def uniform_knots(grid_size: int, degree: int, low: float, high: float) -> list[float]:
    """Return equidistant knots: `grid_size` cells on [low, high] and `degree` more on either side."""
    step = (high - low) / grid_size
    return [low + step * (i - degree) for i in range(grid_size + 2 * degree + 1)]


def legal_evaluations(degree: int, uniform: bool) -> tuple[str, ...]:
    """Return the `EVALUATIONS` that compute B-splines of this degree on uniform, or on any, knots."""
    if not uniform:
        return "auto", "cox_de_boor"
    # Steps and kinks need the one-sided convention of the cells, which folding does not keep.
    return tuple(name for name in EVALUATIONS if name != "folded" or degree >= 2)


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
