"""A network with grids for the tiny problem."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kanvision.layers import KANConv2d, KANLinear
from tests.tasks.tiny_problem import NUM_CLASSES


class TinyKAN(nn.Module):
    """A KAN convolution with dropout on a narrow grid, batch norm, a linear KAN layer with edge scales."""

    def __init__(self, grid_size: int = 4, basis: str = "bspline", squash: str | None = None) -> None:
        super().__init__()
        size = {"grid_size": grid_size} if basis == "bspline" else {"num_centers": grid_size}
        kwargs: dict[str, Any] = {**size, "grid_range": (-1.0, 1.0), "squash": squash}
        self.conv = KANConv2d(
            3, 6, 3, padding=1, stride=2, basis=basis, basis_kwargs=kwargs, norm="batch", drop_rate=0.1
        )
        self.head = KANLinear(6, NUM_CLASSES, basis, basis_kwargs=kwargs, edge_scale=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.conv(x)).mean((2, 3)))  # (B, num_classes)
