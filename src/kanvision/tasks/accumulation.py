"""Number of batches in an optimizer step, which a callback may change between epochs."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import GradientAccumulationScheduler

__all__ = ["batches_per_step", "steps_per_epoch"]


def batches_per_step(trainer: pl.Trainer, epoch: int) -> int:
    """Return the number of batches in an optimizer step of an epoch (from 0)."""
    callbacks: Any = trainer
    for callback in callbacks.callbacks:
        if isinstance(callback, GradientAccumulationScheduler):
            return callback.get_accumulate_grad_batches(epoch)
    return trainer.accumulate_grad_batches


def steps_per_epoch(trainer: pl.Trainer, epoch: int) -> int:
    """Return the number of optimizer steps of an epoch (from 0)."""
    return max(1, math.ceil(trainer.num_training_batches / batches_per_step(trainer, epoch)))
