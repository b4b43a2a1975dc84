"""Squared products of ReLUs. Shapes: x (...), values (..., K, ...) with K inserted at `dim`."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .recompute import recompute
from .stack_inplace import fill_slots

__all__ = ["relu_bumps"]

# Bounded points keep 0 * inf out; no bump reaches this far.
_FAR = 1e6


def relu_bumps(x: Tensor, start: Tensor, end: Tensor, peak_rate: float, dim: int) -> Tensor:
    """Return (peak_rate relu(x - start) relu(end - x))^2, twice differentiable; saves only its arguments.

    Args:
        x: Points in float32 or float64.
        start: Start of each bump, which broadcasts against `x.unsqueeze(dim)`; differentiable.
        end: End of each bump, of the shape of `start`; differentiable. A bump with end <= start is 0.
        peak_rate: Factor of each bump; 4 / (end - start)^2 scales its maximum to 1.
        dim: Axis of the result with the K functions.
    """
    return recompute(_Bumps(peak_rate, dim), x, start, end)


class _Bumps(NamedTuple):
    peak_rate: float
    dim: int

    def values(self, x: Tensor, start: Tensor, end: Tensor) -> Tensor:
        x = x.clamp(-_FAR, _FAR)
        starts, ends = start.unbind(self.dim), end.unbind(self.dim)

        def value(j: int) -> Tensor:
            rise, fall = _sides(x, starts[j], ends[j])
            return rise.mul_(fall).mul_(self.peak_rate).square_()

        return fill_slots(x, len(starts), self.dim, value)

    def pullback(
        self, needs: tuple[bool, ...], grad: Tensor, x: Tensor, start: Tensor, end: Tensor
    ) -> tuple[Tensor | None, ...]:
        x = x.clamp(-_FAR, _FAR)
        total = torch.zeros_like(x)
        to_start, to_end = [], []
        # One bump after the other: temporaries of the size of x fit the cache.
        slots = (tensor.unbind(self.dim) for tensor in (grad, start, end))
        for grad_j, start_j, end_j in zip(*slots, strict=True):
            rise, fall = _sides(x, start_j, end_j)
            # The product is 0 if a side is 0, so that no indicator is needed.
            common = grad_j * rise * fall
            if needs[0]:
                total = torch.addcmul(total, common, fall - rise)
            if needs[1]:
                to_start.append(-(common * fall).sum_to_size(start_j.shape))
            if needs[2]:
                to_end.append((common * rise).sum_to_size(end_j.shape))
        scale = 2 * self.peak_rate**2
        return (
            scale * total if needs[0] else None,
            scale * torch.stack(to_start, self.dim) if needs[1] else None,
            scale * torch.stack(to_end, self.dim) if needs[2] else None,
        )


def _sides(x: Tensor, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    return (x - start).relu_(), (end - x).relu_()
