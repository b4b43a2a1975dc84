"""Squared products of ReLUs. Shapes: x (...), values (..., K, ...) with K inserted at `dim`."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from .recompute import recompute

__all__ = ["relu_bumps"]

# Bounded points keep 0 * inf out; no bump reaches this far.
_FAR = 1e6


def relu_bumps(x: Tensor, start: Tensor, end: Tensor, peak_rate: float, dim: int) -> Tensor:
    """(peak_rate relu(x - start) relu(end - x))^2; keeps only its arguments, twice differentiable.

    Args:
        x: float32 or float64 points.
        start: where a bump begins; broadcasts against `x.unsqueeze(dim)`. Gradients reach it and `end`.
        end: where it ends, of the shape of `start`; a bump with end <= start is 0.
        peak_rate: 4 / (end - start)^2 makes the peak 1.
        dim: axis of the result that holds the K functions.
    """
    return recompute(_Bumps(peak_rate, dim), x, start, end)


class _Bumps(NamedTuple):
    peak_rate: float
    dim: int

    def sides(self, x: Tensor, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
        x = x.clamp(-_FAR, _FAR).unsqueeze(self.dim)
        return (x - start).relu(), (end - x).relu()

    def values(self, x: Tensor, start: Tensor, end: Tensor) -> Tensor:
        rise, fall = self.sides(x, start, end)
        return rise.mul_(fall).mul_(self.peak_rate).square_()

    def pullback(
        self, needs: tuple[bool, ...], grad: Tensor, x: Tensor, start: Tensor, end: Tensor
    ) -> tuple[Tensor | None, ...]:
        rise, fall = self.sides(x, start, end)
        # Where a side is 0 so is this product, so that no indicator is needed.
        common = grad * (2 * self.peak_rate**2) * rise * fall
        return (
            (common * (fall - rise)).sum(self.dim) if needs[0] else None,
            -(common * fall).sum_to_size(start.shape) if needs[1] else None,
            (common * rise).sum_to_size(end.shape) if needs[2] else None,
        )
