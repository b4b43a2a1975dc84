"""Exponential moving average of the weights."""

from __future__ import annotations

import pytorch_lightning as pl

from .averaged_weights import AveragedWeights

__all__ = ["EMAWeights", "ema_decay"]


def ema_decay(decay: float, warmup: bool, num_updates: int) -> float:
    """Return the weight of the old average at the next update: `decay`, or min(decay, (1 + t) / (10 + t)).

    Args:
        decay: Decay after the warm-up.
        warmup: Take the minimum.
        num_updates: Number of updates so far, t.
    """
    return min(decay, (1 + num_updates) / (10 + num_updates)) if warmup else decay


class EMAWeights(AveragedWeights):
    """Exponential moving average of the weights: average = d * average + (1 - d) * weights at each step.

    Args:
        decay: Decay of the average, d.
        warmup: Use min(d, (1 + t) / (10 + t)) for the t-th update, t = 0, 1, ...

    Raises:
        ValueError: If decay is not between 0 and 1.
    """

    def __init__(self, decay: float = 0.9999, warmup: bool = False) -> None:
        if not 0.0 < decay < 1.0:
            raise ValueError(f"ema.decay={decay} must lie between 0 and 1")
        super().__init__()
        self.decay, self.warmup = decay, warmup

    def step_weight(self, trainer: pl.Trainer) -> float:
        """Return 1 - d."""
        return 1.0 - ema_decay(self.decay, self.warmup, self.num_updates if self.warmup else 0)
