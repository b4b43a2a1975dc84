"""Truncated Fourier series. Shapes: x (...), values (..., K, ...) with K inserted at `dim`, F frequencies."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .recompute import recompute

__all__ = ["fourier"]


def fourier(x: Tensor, frequencies: Tensor, dim: int) -> Tensor:
    """Return cos(w_1 x) ... cos(w_F x), sin(w_1 x) ... sin(w_F x), twice differentiable; saves only `x`.

    Args:
        x: Points in float32 or float64.
        frequencies: (F,); no gradient reaches them.
        dim: Axis of the result with the K = 2 F functions.
    """
    return recompute(_Fourier(dim), x, frequencies)


class _Fourier(NamedTuple):
    dim: int

    def columns(self, x: Tensor, frequencies: Tensor) -> Tensor:
        shape = [1] * (x.ndim + 1)
        shape[self.dim] = -1
        return frequencies.view(shape)

    def values(self, x: Tensor, frequencies: Tensor) -> Tensor:
        angles = x.unsqueeze(self.dim) * self.columns(x, frequencies)
        return torch.cat([angles.cos(), angles.sin()], self.dim)

    def pullback(
        self, needs: tuple[bool, ...], grad: Tensor, x: Tensor, frequencies: Tensor
    ) -> tuple[Tensor | None, None]:
        if not needs[0]:
            return None, None
        w = self.columns(x, frequencies)
        angles = x.unsqueeze(self.dim) * w
        of_cos, of_sin = grad.chunk(2, self.dim)
        return (w * (of_sin * angles.cos() - of_cos * angles.sin())).sum(self.dim), None
