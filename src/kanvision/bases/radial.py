"""Radial basis functions. Shapes: C channels, K basis functions."""

from __future__ import annotations

import torch
from torch import Tensor

from kanvision.ops.radial import gaussians

from .base import Basis, Squash

__all__ = ["RBFBasis"]


class RBFBasis(Basis):
    """Gaussians on equidistant centres, phi_j = exp(-((x - c_j) / width)^2), K = num_centers.

    FastKAN, Li 2024, "Kolmogorov-Arnold Networks are Radial Basis Function Networks" (arXiv 2405.06721).
    The functions decay to 0 outside the range.

    Args:
        num_centers: K, at least 2 unless `width` is given.
        grid_range: first and last centre, which is the domain.
        width: of every function; the distance of two centres by default.
        squash: domain policy.
        num_channels: not used, the functions have no parameters.

    Raises:
        ValueError: if there are too few centres or the width is not positive.
    """

    name = "rbf"
    centers: Tensor
    rate: Tensor

    def __init__(
        self,
        num_centers: int = 8,
        grid_range: tuple[float, float] = (-2.0, 2.0),
        width: float | None = None,
        *,
        squash: Squash | None = None,
        num_channels: int | None = None,
    ) -> None:
        low, high = grid_range
        if num_centers < (2 if width is None else 1):
            raise ValueError(f"num_centers={num_centers} must be at least 2, or 1 with a width")
        if width is not None and not width > 0:
            raise ValueError(f"width={width} must be positive")
        super().__init__(
            num_basis=num_centers, domain=(float(low), float(high)), squash=squash, num_channels=num_channels
        )
        self.width = (high - low) / (num_centers - 1) if width is None else width
        self._ends = (low, high) if num_centers > 1 else ((low + high) / 2,) * 2
        self._constant("centers", num_centers)
        self._constant("rate")
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Put the centres back to where they started."""
        low, high = self._ends
        self.centers.copy_(torch.linspace(low, high, self.num_basis, dtype=torch.float64, device="cpu"))
        self.rate.fill_(1 / self.width)

    def expand(self, x: Tensor, dim: int) -> Tensor:
        """Values of the Gaussians."""
        return gaussians(x, self.centers.to(x.dtype), self.rate.to(x.dtype), dim)
