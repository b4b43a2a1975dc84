"""Count of images with a prediction that is not finite."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

__all__ = ["NonFiniteImages"]


class NonFiniteImages(Metric):
    """Counts the images for which a network gave NaN or infinity, over all processes."""

    bad: Tensor
    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("bad", "seen"):
            self.add_state(name, torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, logits: Tensor, loss: Tensor) -> None:
        """Count a batch, which may be empty; all of its images count if its mean loss is not finite.

        Args:
            logits: Logits, (B, ...).
            loss: Mean loss of the batch, a scalar.
        """
        finite = logits.flatten(1).isfinite().all(dim=1) & loss.isfinite()
        # not in place: a test before may have left tensors of inference mode
        self.bad = self.bad + (~finite).sum()
        self.seen = self.seen + len(logits)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return the number of images with NaN or infinity, and the number of all images."""
        return self.bad, self.seen
