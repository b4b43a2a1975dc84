"""Partial fractions of poles of order one. Shapes: x (...), values (..., K, ...) at `dim`, P poles."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .recompute import recompute
from .stack_inplace import fill_slots

__all__ = ["poles"]

# Bounded arguments keep inf / inf out; all functions are below 1e-14 here.
_FAR = 1e15


def poles(x: Tensor, rate: Tensor, dim: int) -> Tensor:
    """Return 2 u_p / (1 + u_p^2) for all poles, then 1 / (1 + u_p^2), u_p = rate_p x.

    With q = 1 / (1 + u^2) the derivatives in u are 2 q (2 q - 1) and -2 u q^2. Keeps only its arguments for
    the backward pass, twice differentiable.

    Args:
        x: Points in float32 or float64.
        rate: 1 / width; broadcasts against `x.unsqueeze(dim)`, gradients reach it.
        dim: Axis of the result with the K = 2 P functions.
    """
    return recompute(_Poles(dim), x, rate)


class _Poles(NamedTuple):
    dim: int

    def values(self, x: Tensor, rate: Tensor) -> Tensor:
        rates = rate.unbind(self.dim)

        def value(k: int) -> Tensor:
            even, p = divmod(k, len(rates))
            u, q = _quotient(x, rates[p])
            return q if even else u.mul_(q).mul_(2)

        return fill_slots(x, 2 * len(rates), self.dim, value)

    def pullback(
        self, needs: tuple[bool, ...], grad: Tensor, x: Tensor, rate: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        rates = rate.unbind(self.dim)
        grads = grad.unbind(self.dim)
        total = torch.zeros_like(x)
        to_rate = []
        for p, rate_p in enumerate(rates):
            u, q = _quotient(x, rate_p)
            slope = 2 * q * ((2 * q - 1) * grads[p] - u * q * grads[p + len(rates)])
            if needs[0]:
                total = torch.addcmul(total, slope, rate_p)
            if needs[1]:
                to_rate.append((slope * u / rate_p).sum_to_size(rate_p.shape))
        return (total if needs[0] else None, torch.stack(to_rate, self.dim) if needs[1] else None)


def _quotient(x: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
    u = (x * rate).clamp(-_FAR, _FAR)
    return u, 1 / (1 + u.square())
