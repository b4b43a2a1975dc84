"""Changes of a model's structure in training: optimizer, averaged copies and the wrapper of DDP follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import pytorch_lightning as pl
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn

from kanvision.layers import GridSite, SelectionSite, change_structure
from kanvision.optim import replace_parameter

from .averaged_weights import list_averages

__all__ = ["change_site", "check_strategy", "get_model", "list_ema_models", "rewrap_ddp"]

MapState = Callable[[Tensor, int], Callable[[Tensor], Tensor]]
"""Function from the map of the weights and the groups of a layer to the map of an optimizer's state."""


def get_model(pl_module: pl.LightningModule) -> nn.Module:
    """Return the model of a task."""
    return cast(nn.Module, pl_module.model)


def list_ema_models(trainer: pl.Trainer) -> Iterator[nn.Module]:
    """Yield the models with averaged weights, whose structure must change with that of the trained model."""
    yield from map(get_model, list_averages(trainer))


def check_strategy(trainer: pl.Trainer, action: str) -> None:
    """Check that parameters may change in training.

    Raises:
        ValueError: Several processes do not train by DDP; the message begins with the action.
    """
    if trainer.world_size > 1 and type(trainer.strategy) is not DDPStrategy:
        raise ValueError(
            f"{action} parameters, which {type(trainer.strategy).__name__} does not support in training; "
            "legal: one process, or trainer.strategy=ddp"
        )


def change_site(
    trainer: pl.Trainer,
    pl_module: pl.LightningModule,
    kind: str,
    site: GridSite | SelectionSite,
    map_state: MapState,
    **arguments: Any,
) -> None:
    """Change the structure of a model and its averages at a site, and map the state of the optimizers."""
    before = {name: layer.basis_weight for name, layer in site.layers.items()}
    matrix = change_structure(get_model(pl_module), kind, site.name, **arguments)
    for average in list_ema_models(trainer):
        change_structure(average, kind, site.name, **arguments)
    for name, layer in site.layers.items():
        for optimizer in trainer.optimizers:
            convert = map_state(matrix, layer.groups)
            replace_parameter(optimizer, before[name], layer.basis_weight, convert)


def rewrap_ddp(trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
    """Wrap the task in DDP again, so that gradients of its new parameters are reduced over the ranks."""
    strategy = trainer.strategy
    if isinstance(strategy, DDPStrategy):
        strategy.model = None  # deletes the old wrapper with its hooks
        strategy.model = pl_module
        strategy.configure_ddp()
