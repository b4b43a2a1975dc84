"""Bernstein polynomials. Shapes: C channels, K basis functions."""

from __future__ import annotations

import math

from torch import Tensor

from kanvision.expansion.define import Definition, Scalar, Vocabulary

from .base import Basis, Squash

__all__ = ["BernsteinBasis"]


def _bernstein(m: Vocabulary, x: Scalar, degree: int) -> list[Scalar]:
    """Return C(n, j) x^j (1 - x)^(n - j), products of non-negative numbers on [0, 1]: no cancellation."""
    rising, falling = _powers(x, degree), _powers(1 - x, degree)
    return [math.comb(degree, j) * (rising[j] * falling[degree - j]) for j in range(degree + 1)]


def _powers(x: Scalar, degree: int) -> list[Scalar]:
    powers: list[Scalar] = [1.0, x]
    for _ in range(degree - 1):
        powers.append(powers[-1] * x)
    return powers


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

    def define(self, constant: bool = True) -> tuple[Definition, tuple[Tensor, ...]]:
        """Return the definition of the polynomials, which has no inputs."""
        return Definition(_bernstein, settings=(self.degree,)), ()
