"""Overlap losses that segmentation-models-pytorch does not have, on probabilities.

B batch, C channels, N pixels.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["generalized_dice", "sample_dice"]

WEIGHT_FLOOR = 1e-5
"""Smallest squared area of a class, and smallest denominator, of the generalized Dice loss."""


def sample_dice(probabilities: Tensor, target: Tensor, smooth: float) -> Tensor:
    """1 - mean_b (2 sum p t + s) / (sum p + sum t + s), sums over all but the first axis.

    Args:
        probabilities: p, (B, ...).
        target: t, 0 or 1, of the same shape; ignored pixels are 0 in both.
        smooth: s.

    Returns:
        A scalar.
    """
    p, t = probabilities.flatten(1), target.flatten(1)  # (B, N)
    score = (2 * (p * t).sum(1) + smooth) / (p.sum(1) + t.sum(1) + smooth)
    return 1 - score.mean()


def generalized_dice(probabilities: Tensor, target: Tensor) -> Tensor:
    """Dice of all classes together, small ones weighing as much as large ones.

    1 - 2 sum_c w_c sum p t / max(sum_c w_c sum (p + t), 1e-5), with w_c = 1 / max((sum t)^2, 1e-5) and the
    inner sums over all pixels of the batch. A class that the batch does not have gets the weight 1e5: each
    pixel that is taken for it costs a lot (Sudre et al. 2017, arXiv 1707.03237; the second version of its
    weights).

    Args:
        probabilities: p, (B, C, ...).
        target: t, 0 or 1, of the same shape; ignored pixels are 0 in both.

    Returns:
        A scalar.
    """
    p, t = (x.transpose(0, 1).flatten(1) for x in (probabilities, target))  # (C, B*N)
    weight = 1 / t.sum(1).square().clamp(min=WEIGHT_FLOOR)
    both, sizes = (weight * (p * t).sum(1)).sum(), (weight * (p + t).sum(1)).sum()
    return 1 - 2 * both / sizes.clamp(min=WEIGHT_FLOOR)
