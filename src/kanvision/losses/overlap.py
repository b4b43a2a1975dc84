"""Overlap losses that segmentation-models-pytorch does not have, on probabilities.

B batch, C channels, N pixels.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["generalized_dice", "sample_dice"]

WEIGHT_FLOOR = 1e-5
"""Smallest squared area of a class, and smallest denominator, of the generalized Dice loss."""


def sample_dice(probabilities: Tensor, target: Tensor, smooth: float) -> Tensor:
    """Return the mean Dice loss of each sample.

    1 - mean_b (2 sum p t + s) / (sum p + sum t + s), with sums over all axes except the first.

    Args:
        probabilities: Probabilities, p, (B, ...).
        target: Targets, t, 0 or 1, of the same shape; ignored pixels are 0 in both.
        smooth: Smoothing term, s.
    """
    p, t = probabilities.flatten(1), target.flatten(1)  # (B, N)
    score = (2 * (p * t).sum(1) + smooth) / (p.sum(1) + t.sum(1) + smooth)
    return 1 - score.mean()


def generalized_dice(probabilities: Tensor, target: Tensor) -> Tensor:
    """Return the generalized Dice loss, in which small classes weigh as much as large ones.

    1 - 2 sum_c w_c sum p t / max(sum_c w_c sum (p + t), 1e-5), with w_c = 1 / max((sum t)^2, 1e-5) and the
    inner sums over all pixels of the batch. A class that is not in the batch has the weight 1e5, so that each
    of its false positives costs much (Sudre et al. 2017, arXiv 1707.03237; the second version of its
    weights).

    Args:
        probabilities: Probabilities, p, (B, C, ...).
        target: Targets, t, 0 or 1, of the same shape; ignored pixels are 0 in both.
    """
    p, t = (x.transpose(0, 1).flatten(1) for x in (probabilities, target))  # (C, B*N)
    weight = 1 / t.sum(1).square().clamp(min=WEIGHT_FLOOR)
    both, sizes = (weight * (p * t).sum(1)).sum(), (weight * (p + t).sum(1)).sum()
    return 1 - 2 * both / sizes.clamp(min=WEIGHT_FLOOR)
