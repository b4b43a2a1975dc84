"""Stochastic weight averaging."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from .averaged_weights import AveragedWeights

__all__ = ["SWAWeights"]


class SWAWeights(AveragedWeights):
    """Mean of the weights at the ends of the last epochs (Izmailov et al. 2018, arXiv 1803.05407).

    Up to the start, the average is a copy of the weights. The publication trains the last epochs with a
    constant or cyclic learning rate; here the schedule is that of the run. Running statistics of batch norms
    are averaged too, in place of a further pass over the training images.

    Args:
        start: First epoch whose weights count: its number, or a fraction of `trainer.max_epochs`.

    Raises:
        ValueError: If start is negative.
    """

    def __init__(self, start: float = 0.75) -> None:
        if start < 0:
            raise ValueError(f"start={start} must be at least 0: a fraction below 1, or an epoch")
        super().__init__()
        self.start = start
        self.num_epochs = 0
        """Number of epochs in the average."""

    def step_weight(self, trainer: pl.Trainer) -> float | None:
        """Return 1 before the start, then 1 / k at the end of the k-th epoch from there on, else None."""
        start = self.start
        if start < 1:
            start = round(start * (trainer.max_epochs or 1))
        if trainer.current_epoch < start:
            return 1.0
        if not trainer.is_last_batch:
            return None
        self.num_epochs += 1
        return 1 / self.num_epochs

    def state_dict(self) -> dict[str, Any]:
        """Return the state, with the number of epochs in the average."""
        return {**super().state_dict(), "num_epochs": self.num_epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state."""
        super().load_state_dict(state_dict)
        self.num_epochs = state_dict["num_epochs"]
