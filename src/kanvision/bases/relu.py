"""ReLU-KAN. Shapes: C channels, K basis functions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kanvision.expansion.define import Definition, Scalar, Vocabulary

from .base import Basis, Squash

__all__ = ["ReLUBasis"]

# Bounded points keep 0 * inf out; no bump reaches this far.
_FAR = 1e6


def _bumps(
    m: Vocabulary, x: Scalar, starts: Sequence[Scalar], ends: Sequence[Scalar], scale: float
) -> list[Scalar]:
    """Return (scale relu(x - start) relu(end - x))^2; a bump with end <= start is 0."""
    x = m.clamp(x, -_FAR, _FAR)
    roots = [scale * (m.relu(x - start) * m.relu(end - x)) for start, end in zip(starts, ends, strict=True)]
    return [root * root for root in roots]


class ReLUBasis(Basis):
    """Bumps of width (k + 1) / g, phi_j = [r relu(x - start_j) relu(end_j - x)]^2, K = grid_size + order.

    Qiu et al. 2024, "ReLU-KAN" (arXiv 2406.02075): start_j = (j - k) / g, end_j = start_j + (k + 1) / g and
    r = 4 g^2 / (k + 1)^2, which scales the maxima to 1. The bumps cover [0, 1]; their support is from -k/g to
    1 + k/g. Starts and ends are learnable parameters (C, K) when `num_channels` is given, else
    fixed buffers (1, K).

    Args:
        grid_size: Number of cells, g.
        order: Order, k.
        squash: Domain policy, see `Basis`.
        num_channels: Number of channels, C, for learnable starts and ends.

    Raises:
        ValueError: A size is too small.
    """

    name = "relu"
    learns_per_channel = True
    start: Tensor
    end: Tensor

    def __init__(
        self,
        grid_size: int = 5,
        order: int = 3,
        *,
        squash: Squash | None = None,
        num_channels: int | None = None,
    ) -> None:
        for key, value, minimum in (("grid_size", grid_size, 1), ("order", order, 0)):
            if value < minimum:
                raise ValueError(f"{key}={value} must be at least {minimum}")
        super().__init__(
            num_basis=grid_size + order, domain=(0.0, 1.0), squash=squash, num_channels=num_channels
        )
        self.grid_size = grid_size
        self.order = order
        self._own("start", "end")
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialize starts and ends."""
        steps = torch.arange(-self.order, self.grid_size, dtype=torch.float64, device="cpu")
        self.start.copy_(steps / self.grid_size)
        self.end.copy_((steps + self.order + 1) / self.grid_size)

    def define(self, constant: bool = True) -> tuple[Definition, tuple[Tensor, ...]]:
        """Return the definition of the bumps, the starts and the ends."""
        scale = 4 * self.grid_size**2 / (self.order + 1) ** 2
        return Definition(_bumps, sizes=(self.num_basis,) * 2, settings=(scale,)), (self.start, self.end)
