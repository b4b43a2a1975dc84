"""Gaussian radial functions. Shapes: x (...), values (..., K, ...) with K inserted at `dim`."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .recompute import recompute
from .slots import fill_slots

__all__ = ["gaussians"]

# Farther than this many widths from its centre every function is 0, also in float64.
_FAR = 100.0


def gaussians(x: Tensor, centers: Tensor, rate: Tensor, dim: int) -> Tensor:
    """exp(-(rate (x - c_j))^2); keeps only `x` for the backward pass, twice differentiable.

    Args:
        x: float32 or float64 points.
        centers: (K,); no gradient reaches them, nor `rate`.
        rate: scalar, 1 / width.
        dim: axis of the result that holds the functions.
    """
    return recompute(_Gaussians(dim), x, centers, rate)


class _Gaussians(NamedTuple):
    dim: int

    def values(self, x: Tensor, centers: Tensor, rate: Tensor) -> Tensor:
        def value(j: int) -> Tensor:
            return _bell(_distance(x, centers[j], rate))

        return fill_slots(x, centers.numel(), self.dim, value)

    def pullback(
        self, needs: tuple[bool, ...], grad: Tensor, x: Tensor, centers: Tensor, rate: Tensor
    ) -> tuple[Tensor | None, None, None]:
        if not needs[0]:
            return None, None, None
        total = torch.zeros_like(x)
        # One function after the other: temporaries of the size of x stay in the cache.
        for j, grad_j in enumerate(grad.unbind(self.dim)):
            # Bounded, so that the derivative at infinity is 0 and not inf * 0.
            u = _distance(x, centers[j], rate).clamp(-_FAR, _FAR)
            total = torch.addcmul(total, grad_j, u * _bell(u))
        return -2 * rate * total, None, None


def _distance(x: Tensor, center: Tensor, rate: Tensor) -> Tensor:
    return (x - center).mul_(rate)


def _bell(u: Tensor) -> Tensor:
    return u.square().neg_().exp_()
