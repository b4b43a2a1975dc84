"""Radial functions. Shapes: x (...), values (..., K, ...) with K inserted at `dim`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .recompute import recompute
from .stack_inplace import fill_slots

__all__ = ["PROFILES", "bumps"]

# Farther than this many widths from its center every function is 0, also in float64.
_FAR = 100.0


def bumps(x: Tensor, centers: Tensor, rate: Tensor, dim: int, profile: str) -> Tensor:
    """Return profile(rate (x - c_j)), twice differentiable; saves only `x` for the backward pass.

    Args:
        x: Points in float32 or float64.
        centers: (K,); no gradient reaches them, nor `rate`.
        rate: Scalar, 1 / width.
        dim: Axis of the result with the functions.
        profile: Key of `PROFILES`.
    """
    return recompute(_Bumps(profile, dim), x, centers, rate)


class _Bumps(NamedTuple):
    profile: str
    dim: int

    def values(self, x: Tensor, centers: Tensor, rate: Tensor) -> Tensor:
        height = PROFILES[self.profile].value

        def value(j: int) -> Tensor:
            return height(_distance(x, centers[j], rate))

        return fill_slots(x, centers.numel(), self.dim, value)

    def pullback(
        self, needs: tuple[bool, ...], grad: Tensor, x: Tensor, centers: Tensor, rate: Tensor
    ) -> tuple[Tensor | None, None, None]:
        if not needs[0]:
            return None, None, None
        half_slope = PROFILES[self.profile].half_slope
        total = torch.zeros_like(x)
        # One function after the other: temporaries of the size of x fit the cache.
        for j, grad_j in enumerate(grad.unbind(self.dim)):
            # Bounded, so that the derivative at infinity is 0 and not inf * 0.
            u = _distance(x, centers[j], rate).clamp(-_FAR, _FAR)
            total = torch.addcmul(total, grad_j, half_slope(u))
        return -2 * rate * total, None, None


def _distance(x: Tensor, center: Tensor, rate: Tensor) -> Tensor:
    return (x - center).mul_(rate)


class _Profile(NamedTuple):
    value: Callable[[Tensor], Tensor]
    half_slope: Callable[[Tensor], Tensor]  # -1/2 of the derivative


def _gaussian(u: Tensor) -> Tensor:
    return u.square().neg_().exp_()


def _gaussian_half_slope(u: Tensor) -> Tensor:
    return u * _gaussian(u)


def _sech2(u: Tensor) -> Tensor:
    return u.tanh().square_().neg_().add_(1)


def _sech2_half_slope(u: Tensor) -> Tensor:
    t = u.tanh()
    return t * (1 - t.square())


PROFILES: dict[str, _Profile] = {
    "gaussian": _Profile(_gaussian, _gaussian_half_slope),
    "sech2": _Profile(_sech2, _sech2_half_slope),
}
"""Value and derivative by name.

gaussian: exp(-u^2)
sech2: 1 - tanh(u)^2 = 1 / cosh(u)^2
"""
