"""Rational functions with one denominator. Shapes: x (...), values (..., K, ...) with K inserted at `dim`."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .recompute import recompute
from .stack_inplace import fill_slots

__all__ = ["fractions"]

# Largest power of x that is ever computed; its square times the derivative of a denominator is finite.
_LARGEST_POWER = 1e16


def fractions(x: Tensor, denominator: Tensor, degree: int, dim: int) -> Tensor:
    """Return x^j / Q(x), j = 0 ... degree, Q = 1 + |b_1 x + ... + b_n x^n|; saves only its arguments.

    With P = sum b_k x^k, q = 1 / Q and N = sum_j g_j x^j for incoming gradients g, the gradients are
    q (N' - N q sign(P) P') in x and -N q^2 sign(P) x^k in b_k, by Horner's scheme. Points are bounded at
    +-10^(16 / max(degree, n)), so that no power overflows in float32.
    Twice differentiable.

    Args:
        x: Points in float32 or float64.
        denominator: Coefficients b_1 ... b_n along axis `dim`, differentiable; other axes broadcast against
            `x.unsqueeze(dim)`.
        degree: Highest power m of the numerators.
        dim: Axis of the result with the K = degree + 1 functions.
    """
    return recompute(_Fractions(degree, dim), x, denominator)


class _Fractions(NamedTuple):
    degree: int
    dim: int

    def values(self, x: Tensor, denominator: Tensor) -> Tensor:
        b = denominator.unbind(self.dim)
        far = self._far(len(b))
        x = x.clamp(-far, far)
        value = 1 / (1 + (_horner(x, b) * x).abs_())

        def numerator(j: int) -> Tensor:
            return value if j == 0 else value.mul_(x)

        if torch.compiler.is_compiling():
            return torch.stack([value * x**j for j in range(self.degree + 1)], self.dim)
        return fill_slots(x, self.degree + 1, self.dim, numerator)

    def pullback(
        self, needs: tuple[bool, ...], grad: Tensor, x: Tensor, denominator: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        b = denominator.unbind(self.dim)
        g = grad.unbind(self.dim)
        far = self._far(len(b))
        points = x.clamp(-far, far)
        p = _horner(points, b) * points
        q = 1 / (1 + p.abs())
        through = _horner(points, g) * q * p.sign()  # N q sign(P)
        grad_x, grad_b = None, None
        if needs[0]:
            rise = _horner(points, [j * c for j, c in enumerate(g)][1:]) if self.degree else 0.0
            fall = _horner(points, [k * c for k, c in enumerate(b, start=1)])
            grad_x = torch.where(x.abs() > far, 0, q * (rise - through * fall))
        if needs[1]:
            entries, power = [], -through * q
            for coefficient in b:
                power = power * points
                entries.append(power.sum_to_size(coefficient.shape))
            grad_b = torch.stack(entries, self.dim)
        return grad_x, grad_b

    def _far(self, num_coefficients: int) -> float:
        return float(_LARGEST_POWER ** (1 / max(self.degree, num_coefficients)))


def _horner(x: Tensor, coefficients: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    """Return c_0 + c_1 x + ... + c_n x^n, in the shape of `x`."""
    total = coefficients[-1].expand_as(x)
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return total
