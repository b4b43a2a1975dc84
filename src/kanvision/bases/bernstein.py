"""Bernstein polynomials. Shapes: C channels, K basis functions."""

from __future__ import annotations

from torch import Tensor

from kanvision.ops.bernstein import bernstein

from .base import Basis, Squash

__all__ = ["BernsteinBasis"]


class BernsteinBasis(Basis):
    """Bernstein polynomials on [0, 1], b_j = C(n, j) x^j (1 - x)^(n - j), K = degree + 1.

    Non-negative with sum 1. The published KABN layer (Drokin 2024, arXiv 2407.01092) is intended to use them
    but computes the constant 1. With `squash=None` inputs beyond [0, 1] are extrapolated, and values grow
    like |x|^degree.

    Args:
        degree: Degree of all polynomials, n.
        squash: Domain policy, see `Basis`.
        num_channels: Not used: the functions have no parameters.

    Raises:
        ValueError: The degree is negative.
    """

    name = "bernstein"

    def __init__(
        self, degree: int = 3, *, squash: Squash | None = "sigmoid", num_channels: int | None = None
    ) -> None:
        if degree < 0:
            raise ValueError(f"degree={degree} must be at least 0")
        super().__init__(num_basis=degree + 1, domain=(0.0, 1.0), squash=squash, num_channels=num_channels)
        self.degree = degree

    def expand(self, x: Tensor, dim: int) -> Tensor:
        """Return the values of the polynomials."""
        return bernstein(x, self.degree, dim)

    def expand_flops(self) -> int:
        """Count 1 - x, the powers of both, and two products for each function."""
        return 1 + 2 * self.degree + 2 * self.num_basis
