"""Sines of learned frequency. Shapes: x (...), values (..., K, ...) with K inserted at `dim`."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .recompute import recompute
from .stack_inplace import fill_slots

__all__ = ["sines"]


def sines(x: Tensor, frequency: Tensor, phase: Tensor, dim: int) -> Tensor:
    """Return sin(frequency_k x + phase_k), twice differentiable; saves only its arguments for backward.

    Args:
        x: Points in float32 or float64.
        frequency: Broadcasts against `x.unsqueeze(dim)`; gradients reach it and `phase`.
        phase: As `frequency`.
        dim: Axis of the result with the K functions.
    """
    return recompute(_Sines(dim), x, frequency, phase)


class _Sines(NamedTuple):
    dim: int

    def values(self, x: Tensor, frequency: Tensor, phase: Tensor) -> Tensor:
        w, p = frequency.unbind(self.dim), phase.unbind(self.dim)
        return fill_slots(x, len(w), self.dim, lambda k: (x * w[k]).add_(p[k]).sin_())

    def pullback(
        self, needs: tuple[bool, ...], grad: Tensor, x: Tensor, frequency: Tensor, phase: Tensor
    ) -> tuple[Tensor | None, ...]:
        total = torch.zeros_like(x)
        to_frequency, to_phase = [], []
        # One function after the other: temporaries of the size of x fit the cache.
        slots = (tensor.unbind(self.dim) for tensor in (grad, frequency, phase))
        for grad_k, w, p in zip(*slots, strict=True):
            slope = grad_k * torch.cos(w * x + p)
            if needs[0]:
                total = torch.addcmul(total, slope, w)
            if needs[1]:
                to_frequency.append((slope * x).sum_to_size(w.shape))
            if needs[2]:
                to_phase.append(slope.sum_to_size(p.shape))
        return (
            total if needs[0] else None,
            torch.stack(to_frequency, self.dim) if needs[1] else None,
            torch.stack(to_phase, self.dim) if needs[2] else None,
        )
