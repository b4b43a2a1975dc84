"""What a callback that changes the network in training has to see to: its average, and other processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytorch_lightning as pl
from pytorch_lightning.strategies import DDPStrategy
from torch import nn

from .ema import EMAWeights

__all__ = ["exchange_again", "list_ema_networks", "network_of"]


def network_of(pl_module: pl.LightningModule) -> nn.Module:
    """The network of a task."""
    return cast(nn.Module, pl_module.model)


def list_ema_networks(trainer: pl.Trainer) -> Iterator[nn.Module]:
    """Networks of averaged weights, which have to change like the one in training."""
    for callback in cast(Any, trainer).callbacks:
        if isinstance(callback, EMAWeights) and callback.averaged is not None:
            yield network_of(callback.averaged)


def exchange_again(trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
    """Let processes exchange gradients of the parameters that the network has now."""
    strategy = trainer.strategy
    if isinstance(strategy, DDPStrategy):
        strategy.model = None  # the old wrapper takes its hooks with it
        strategy.model = pl_module
        strategy.configure_ddp()
