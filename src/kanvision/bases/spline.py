"""B-splines. Shapes: C channels, K basis functions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from kanvision.ops.bspline import bspline, uniform_knots

from .base import Basis, Squash

__all__ = ["BSplineBasis"]


class BSplineBasis(Basis):
    """B-splines of any degree, K = grid_size + degree functions.

    By default the knots are uniform: `grid_size` cells on `grid_range` and `degree` more on either side, as
    in Liu et al. 2024, "KAN: Kolmogorov-Arnold Networks" (arXiv 2404.19756).
    The functions sum to 1 on the range, decay to 0 over the cells beside it and are 0 farther out, so that a
    layer is left with its base branch there: squash inputs that are wider than the range ("tanh", "clamp"),
    or widen it; behind a norm (-2, 2) or (-3, 3) fits.

    Args:
        grid_size: cells on the range.
        degree: k; 3 is cubic.
        grid_range: lowest and highest point of the range, which is the domain.
        knots: increasing knots that replace the uniform ones; `grid_size` and `grid_range` are not used then.
            n + 1 knots give K = n - degree functions.
        squash: domain policy.
        num_channels: not used, the functions have no parameters.

    Raises:
        ValueError: if a size is too small, the range is empty or the knots are not increasing or too few.
    """

    name = "bspline"
    knots: Tensor

    def __init__(
        self,
        grid_size: int = 5,
        degree: int = 3,
        grid_range: tuple[float, float] = (-1.0, 1.0),
        knots: Sequence[float] | None = None,
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
        super().__init__(
            num_basis=len(points) - 1 - degree,
            domain=(float(low), float(high)),
            squash=squash,
            num_channels=num_channels,
        )
        self.degree = degree
        self.uniform = knots is None
        self._points = points
        self._constant("knots", len(points))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Put the knots back to where they started."""
        self.knots.copy_(self.knots.new_tensor(self._points))

    def expand(self, x: Tensor, dim: int) -> Tensor:
        """Values of all B-splines."""
        return bspline(x, self.knots.to(x.dtype), self.degree, dim, uniform=self.uniform)
