"""B-splines. Shapes: C channels, K basis functions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from kanvision.expansion.define import Definition
from kanvision.ops.bspline import (
    EVALUATIONS,
    define_bspline,
    legal_evaluations,
    uniform_knots,
)

from .base import Squash
from .grid import GridBasis

__all__ = ["BSplineBasis"]


class BSplineBasis(GridBasis):
    """B-splines of any degree, K = grid_size + degree functions.

    By default the knots are uniform: `grid_size` cells on `grid_range` and `degree` more on either side, as
    in Liu et al. 2024, "KAN: Kolmogorov-Arnold Networks" (arXiv 2404.19756). The functions sum to 1 on the
    range, decay to 0 over the adjacent cells and are 0 farther out, where a layer has only its base branch.
    Squash inputs that exceed the range ("tanh", "clamp"), or widen it: (-2, 2) or (-3, 3) suits inputs of a
    norm, and `kanvision.layers.grid` moves the range to the data.

    Args:
        grid_size: Number of cells of the range.
        degree: Degree, k; 3 is cubic.
        grid_range: Lowest and highest point of the range, which is the domain.
        knots: Increasing knots that replace the uniform ones; `grid_size` and `grid_range` are not used then.
            n + 1 knots have K = n - degree functions.
        evaluation: Algorithm, which affects only cost and rounding. "folded": truncated powers, uniform knots
            and degree >= 2; "local": the degree + 1 nonzero functions by the recursion in their
            cell, uniform knots; "matrix": those by powers of the position in the cell, as in MatrixKAN (arXiv
            2502.07176), uniform knots; "cox_de_boor": the recursion, any knots; "auto":
            folded for degrees 2 to 5, else matrix, and cox_de_boor with `knots`.
        squash: Domain policy, see `Basis`.
        num_channels: Not used: the functions have no parameters.

    Raises:
        ValueError: A size is too small, the range is empty, the knots are not increasing or too few, or
            the evaluation is not known or not legal for these knots or this degree.
    """

    name = "bspline"
    knots: Tensor

    def __init__(
        self,
        grid_size: int = 5,
        degree: int = 3,
        grid_range: tuple[float, float] = (-1.0, 1.0),
        knots: Sequence[float] | None = None,
        evaluation: str = "auto",
        *,
        squash: Squash | None = None,
        num_channels: int | None = None,
    ) -> None:
        if degree < 0:
            raise ValueError(f"degree={degree} must be at least 0")
        if knots is None:
            if grid_size < 1:
                raise ValueError(f"grid_size={grid_size} must be at least 1")
            low, high = grid_range
            if not low < high:
                raise ValueError(f"grid_range={tuple(grid_range)} must be an increasing pair")
            points = uniform_knots(grid_size, degree, low, high)
        else:
            points = [float(knot) for knot in knots]
            if len(points) < 2 * degree + 2:
                raise ValueError(
                    f"knots: degree {degree} needs at least {2 * degree + 2} of them, got {len(points)}"
                )
            if any(b < a for a, b in itertools.pairwise(points)) or points[degree] >= points[-degree - 1]:
                raise ValueError(f"knots must be in increasing order, got {points}")
            low, high = points[degree], points[-degree - 1]
        _require_legal(evaluation, degree, uniform=knots is None)
        super().__init__(
            num_basis=len(points) - 1 - degree,
            domain=(float(low), float(high)),
            squash=squash,
            num_channels=num_channels,
        )
        self.degree = degree
        self.evaluation = evaluation
        self.uniform = knots is None
        self._points = points
        self._constant("knots", len(points))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialize the knots."""
        self.knots.copy_(self.knots.new_tensor(self._points))

    @property
    def num_cells(self) -> int:
        """Return the number of cells of the domain, G."""
        return self.num_basis - self.degree

    @property
    def step(self) -> float:
        """Return the width of a cell, or the mean width if they differ."""
        low, high = self.domain
        return (high - low) / self.num_cells

    def _support(self) -> tuple[float, float]:
        return self._points[0], self._points[-1]

    def _set_buffers(self, low: float, high: float) -> None:
        if self.uniform:
            self._points = uniform_knots(self.num_cells, self.degree, low, high)
        else:
            first, last = self.domain
            scale = (high - low) / (last - first)
            self._points = [low + scale * (point - first) for point in self._points]
        self.reset_parameters()

    def _found(self) -> tuple[float, float]:
        points = self._known_points()
        if self.uniform:
            step = (points[-1] - points[0]) / (len(points) - 1)
            widths = [right - left for left, right in itertools.pairwise(points)]
            # float32 rounds each knot by its own size, however narrow the cells are.
            rounding = 1e-6 * max(abs(points[0]), abs(points[-1]))
            if not step > 0 or any(abs(width - step) > 1e-3 * step + rounding for width in widths):
                raise ValueError(
                    f"knots={points} are not equidistant, and the closed forms of this basis need that; "
                    "build it with knots=..., which takes any"
                )
        self._points = points
        return points[self.degree], points[-self.degree - 1]

    def _known_points(self) -> list[float]:
        points: list[float] = self._points if self.knots.is_meta else self.knots.tolist()
        return points

    def _equidistant(self, left: int, right: int, factor: int = 1) -> None:
        """Build knots that contain the current ones, `factor` for each cell, and more cells at the ends."""
        if not self.uniform:
            raise ValueError("only a B-spline basis at equidistant knots can be extended or refined")
        points = self._known_points()
        first, last = points[self.degree], points[-self.degree - 1]
        cell = (last - first) / self.num_cells
        low = first - left * cell
        count = (self.num_cells + left + right) * factor + 2 * self.degree + 1
        self._points = [low + (i - self.degree) * (cell / factor) for i in range(count)]
        self.knots = self.knots.new_empty(count)
        self.reset_parameters()

    def _extended(self, left: int, right: int) -> None:
        self._equidistant(left, right)

    @torch.no_grad()
    def refine(self, factor: int) -> Tensor:
        """Insert knots that split each cell into `factor` cells.

        B_j = sum_i c_i b_{rj - (r-1)k + i} with B on cells of width h, b on h / r, r the factor and c the
        coefficients of (1 + z + ... + z^{r-1})^{k+1} / r^k; for doubling c_i = 2^-k C(k+1, i). Exact on the
        domain. Outside, the functions end k h / r from its ends instead of k h.

        Returns:
            Map of the weights (K', K), K' = r G + k.

        Raises:
            ValueError: The factor is below 2 or the knots are not equidistant.
        """
        if factor < 2:
            raise ValueError(f"factor={factor} must be at least 2")
        self._equidistant(0, 0, factor)
        mask = torch.ones(1, dtype=torch.float64)
        for _ in range(self.degree + 1):
            taps = torch.ones(1, 1, factor, dtype=torch.float64)
            mask = torch.conv1d(mask.view(1, 1, -1), taps, padding=factor - 1).flatten()
        before = self.num_basis
        self.num_basis = factor * self.num_cells + self.degree
        weights = torch.zeros(self.num_basis, before, dtype=torch.float64)
        for j in range(before):
            for i, coefficient in enumerate(mask.tolist()):
                row = factor * j - (factor - 1) * self.degree + i
                if 0 <= row < self.num_basis:
                    weights[row, j] = coefficient / factor**self.degree
        self.domain = self._found()
        return weights

    def define(self, constant: bool = True) -> tuple[Definition, tuple[Tensor, ...]]:
        """Return the definition of all B-splines, and the knots."""
        knots = self.knots
        definition = define_bspline(len(knots), self.degree, uniform=self.uniform, evaluation=self.evaluation)
        return definition, (knots,)


def _require_legal(evaluation: str, degree: int, *, uniform: bool) -> None:
    legal = legal_evaluations(degree, uniform)
    if evaluation in legal:
        return
    if evaluation not in EVALUATIONS:
        why = "is not known"
    elif uniform:
        why = f"needs degree >= 2, got degree={degree}"
    else:
        why = "needs uniform knots, and knots=... replaces them"
    raise ValueError(f"evaluation={evaluation!r} {why}; legal values: {', '.join(legal)}")
