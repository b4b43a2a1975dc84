"""Poly-1 loss (Leng et al. 2022, arXiv 2204.12511)."""

import torch.nn.functional as F
from torch import Tensor, nn


class PolyLoss(nn.Module):
    """Cross-entropy plus epsilon (1 - p) for the probability p of the target.

    Args:
        epsilon: Weight of the second term.
    """

    def __init__(self, epsilon: float = 1.0) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of logits (B, K) and classes (B,), or with mixup class weights (B, K)."""
        weights = F.one_hot(target, logits.shape[1]) if target.ndim == 1 else target
        p = (logits.softmax(dim=1) * weights).sum(dim=1)
        return F.cross_entropy(logits, target) + self.epsilon * (1 - p).mean()
