"""Search for the probability threshold of foreground pixels on validation images.

B batch, K foreground classes, H W space, T thresholds.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

__all__ = ["THRESHOLDS", "ThresholdSearch"]

THRESHOLDS = tuple(step / 100 for step in range(1, 100))
"""Candidates, T."""


class ThresholdSearch(Metric):
    """Threshold of each class with the highest F1 over all pixels, and therefore the highest IoU.

    F1 = 2 IoU / (1 + IoU) grows with IoU. Of equal thresholds, the one nearest to 0.5 is selected. Counts of
    pixels are integers, summed over all processes.

    Args:
        num_foreground: Number of foreground classes, K.
        **kwargs: Arguments of `torchmetrics.Metric`.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = None
    counts: Tensor
    grid: Tensor

    def __init__(self, num_foreground: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_foreground = num_foreground
        self.register_buffer("grid", torch.tensor(THRESHOLDS), persistent=False)
        empty = torch.zeros(2 * num_foreground * (len(THRESHOLDS) + 1), dtype=torch.int64)
        self.add_state("counts", empty, dist_reduce_fx="sum")

    def update(self, probabilities: Tensor, target: Tensor, valid: Tensor | None = None) -> None:
        """Add images.

        Args:
            probabilities: Probabilities, (B, K, H, W); NaN is below all thresholds.
            target: Target planes, bool (B, K, H, W).
            valid: Valid pixels, of the same shape; None if all are valid.
        """
        # number of thresholds below the probability of a pixel
        above = torch.bucketize(probabilities.detach().float().nan_to_num(0.0).contiguous(), self.grid)
        plane = torch.arange(self.num_foreground, device=above.device)[:, None, None]
        cell = (target * self.num_foreground + plane) * (len(THRESHOLDS) + 1) + above  # (B, K, H, W)
        cell = cell.flatten() if valid is None else cell[valid]
        self.counts += torch.bincount(cell, minlength=len(self.counts))

    def compute(self) -> Tensor:
        """Return the thresholds, (K,)."""
        wrong, right = self.counts.reshape(2, self.num_foreground, -1)  # (K, T + 1) each
        taken = [x.flip(-1).cumsum(-1).flip(-1)[:, 1:] for x in (wrong, right)]  # (K, T)
        missed = right.sum(dim=-1, keepdim=True) - taken[1]
        f1 = 2 * taken[1] / (2 * taken[1] + taken[0] + missed).clamp(min=1)
        best = f1 == f1.amax(dim=-1, keepdim=True)
        distance = (self.grid - 0.5).abs().expand_as(f1).masked_fill(~best, 2.0)
        return self.grid[distance.argmin(dim=-1)]
