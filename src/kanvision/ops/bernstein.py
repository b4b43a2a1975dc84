"""Bernstein polynomials. Shapes: x (...), values (..., K, ...) with K = degree + 1 inserted at `dim`."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .recompute import recompute

__all__ = ["bernstein"]


def bernstein(x: Tensor, degree: int, dim: int) -> Tensor:
    """Return b_{j,n}(x) = C(n, j) x^j (1 - x)^(n - j), twice differentiable; saves only `x` for backward.

    A product of non-negative numbers on [0, 1]: no cancellation at any degree. The derivative is
    d/dx b_{j,n} = n (b_{j-1,n-1} - b_{j,n-1}).

    Args:
        x: Points in float32 or float64, intended to be in [0, 1].
        degree: Degree of all polynomials, n >= 0.
        dim: Axis of the result with the polynomials.
    """
    return recompute(_Bernstein(degree, dim), x)


class _Bernstein(NamedTuple):
    degree: int
    dim: int

    def values(self, x: Tensor) -> Tensor:
        return _values(x, self.degree, self.dim)

    def pullback(self, needs: tuple[bool, ...], grad: Tensor, x: Tensor) -> tuple[Tensor]:
        if self.degree == 0:
            return (torch.zeros_like(x),)
        lower = _values(x, self.degree - 1, self.dim)
        return (self.degree * (grad.diff(dim=self.dim) * lower).sum(self.dim),)


def _values(x: Tensor, degree: int, dim: int) -> Tensor:
    rising, falling = _powers(x, degree), _powers(1 - x, degree)
    products = [math.comb(degree, j) * rising[j] * falling[degree - j] for j in range(degree + 1)]
    return torch.stack(products, dim)


def _powers(x: Tensor, degree: int) -> list[Tensor]:
    powers = [torch.ones_like(x)]
    for _ in range(degree):
        powers.append(powers[-1] * x)
    return powers
