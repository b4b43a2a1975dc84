"""Changes of a model's structure in training: its averaged copies and the wrapper of DDP follow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytorch_lightning as pl
from pytorch_lightning.strategies import DDPStrategy
from torch import nn

from .averaged_weights import AveragedWeights

__all__ = ["get_model", "list_ema_models", "rewrap_ddp"]


def get_model(pl_module: pl.LightningModule) -> nn.Module:
    """Return the model of a task."""
    return cast(nn.Module, pl_module.model)


def list_ema_models(trainer: pl.Trainer) -> Iterator[nn.Module]:
    """Yield the models with averaged weights, whose structure must change with that of the trained model."""
    for callback in cast(Any, trainer).callbacks:
        if isinstance(callback, AveragedWeights) and callback.averaged is not None:
            yield get_model(callback.averaged)


def rewrap_ddp(trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
    """Wrap the task in DDP again, so that gradients of its new parameters are reduced over the ranks."""
    strategy = trainer.strategy
    if isinstance(strategy, DDPStrategy):
        strategy.model = None  # deletes the old wrapper with its hooks
        strategy.model = pl_module
        strategy.configure_ddp()
