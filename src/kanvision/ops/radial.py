"""Gaussian radial functions. Shapes: x (...), values (..., K, ...) with K inserted at `dim`."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .recompute import recompute

__all__ = ["gaussians"]

# Farther than this many widths from its centre every function is 0, also in float64.
_FAR = 100.0


def gaussians(x: Tensor, centers: Tensor, rate: Tensor, dim: int) -> Tensor:
    """exp(-(rate (x - c_j))^2); keeps only `x` for the backward pass, twice differentiable.

    Args:
        x: float32 or float64 points.
        centers: (K,) increasing; no gradient reaches them, nor `rate`.
        rate: scalar, 1 / width.
        dim: axis of the result that holds the functions.
    """
    return recompute(_Gaussians(dim), x, centers, rate)


class _Gaussians(NamedTuple):
    dim: int

    def distances(self, x: Tensor, centers: Tensor, rate: Tensor) -> Tensor:
        shape = [1] * (x.ndim + 1)
        shape[self.dim] = -1
        # Bounded, so that the derivative at infinity is 0 and not 0 * inf.
        return (rate * (x.unsqueeze(self.dim) - centers.view(shape))).clamp(-_FAR, _FAR)

    def values(self, x: Tensor, centers: Tensor, rate: Tensor) -> Tensor:
        return self.distances(x, centers, rate).square_().neg_().exp_()

    def pullback(
        self, needs: tuple[bool, ...], grad: Tensor, x: Tensor, centers: Tensor, rate: Tensor
    ) -> tuple[Tensor | None, None, None]:
        if not needs[0]:
            return None, None, None
        u = self.distances(x, centers, rate)
        return -2 * rate * (grad * u * torch.exp(-u.square())).sum(self.dim), None, None
