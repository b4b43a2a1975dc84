"""Callback that monitors, moves and refines the grids of KAN layers in training."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, cast, runtime_checkable

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from kanvision.layers import (
    GridMove,
    GridSite,
    grid_sites,
    init_grids,
    map_functions,
    measure_inputs,
    move_grids,
)
from kanvision.optim import replace_parameter

from .epoch_state import is_resumed_within_epoch
from .structure_change import change_site, check_strategy, get_model, list_ema_models, rewrap_ddp

__all__ = ["GridUpdate"]


@runtime_checkable
class Rereadable(Protocol):
    """A loader that counts the batches of the epoch and can load them again."""

    position: int

    def reload_batches(self, steps: range) -> Iterator[Any]: ...


class GridUpdate(Callback):
    """Measures the inputs of the grids of KAN layers, and moves and refines grids at the end of epochs.

    The inputs are those of the last training images of the epoch (before mixing). Each rank takes its own
    images, and the statistics are reduced over all ranks, so that all of them change their models alike.
    Logged for every epoch, as measured before any change:

    * `grid/outside`: share of the inputs outside the domain of their basis, mean over bases;
    * `grid/outside_worst`: the same share for the worst basis;
    * `grid/change`, if grids were moved: largest relative change of a layer's functions.

    Moving a grid keeps shapes, and works under every strategy that keeps whole parameters. Refining makes new
    parameters, which keep their parameter group. In both cases momenta and mean squares of the optimizer are
    transformed by the map of the weights, and the average of the weights (`EMAWeights`) changes in the same
    way. Checkpoints hold grids in the weights and numbers of functions as changes of structure, so that
    resume and evaluation work.

    Args:
        at_start: Before the first step of a fresh run, fit the grids to the inputs of the first batch.
            Weights are kept, so this is not for trained models.
        move_every_n_epochs: Number of epochs between moves; None: never.
        move_at: Numbers of epochs after which grids are moved as well.
        refine_at: Number of grid cells by the number of epochs after which grids are refined. Each is a
            multiple of the number before, as {10: 10, 20: 20} for a basis that starts with 5.
        num_batches: Number of batches whose inputs are measured.
        quantile: Share of the inputs that a grid may leave out at either end.
        margin: Width beside the inputs at either end, relative to their range.
        max_change: Largest relative change of a layer's functions by a move; None: no limit.

    Raises:
        ValueError: If a number is out of range, or (at the start of training) a grid cannot be refined to
            the given size.
    """

    def __init__(
        self,
        at_start: bool = True,
        move_every_n_epochs: int | None = None,
        move_at: Sequence[int] = (),
        refine_at: Mapping[int, int] | None = None,
        num_batches: int = 4,
        quantile: float = 1e-3,
        margin: float = 0.05,
        max_change: float | None = 0.008,
    ) -> None:
        refinements = {int(epoch): int(size) for epoch, size in (refine_at or {}).items()}
        epochs = {"move_every_n_epochs": move_every_n_epochs or 1, "num_batches": num_batches}
        epochs |= {"move_at": min(move_at, default=1), "refine_at": min(refinements, default=1)}
        for key, value in epochs.items():
            if value < 1:
                raise ValueError(f"callbacks.grid.{key}: {value} must be at least 1")
        if not 0 <= quantile < 0.5:
            raise ValueError(f"callbacks.grid.quantile={quantile} must be in [0, 0.5)")
        if margin < 0:
            raise ValueError(f"callbacks.grid.margin={margin} must be at least 0")
        if max_change is not None and max_change <= 0:
            raise ValueError(f"callbacks.grid.max_change={max_change} must be positive, or null for no limit")
        self.at_start = at_start
        self.move_every_n_epochs = move_every_n_epochs
        self.move_at = frozenset(move_at)
        self.refine_at = refinements
        self.num_batches = num_batches
        self.max_change = max_change
        self._range = {"quantile": quantile, "margin": margin}
        self._images: deque[Tensor] = deque(maxlen=num_batches)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check that all refinements to come are possible; warn if the model has no grids."""
        self._images.clear()
        if is_resumed_within_epoch(trainer):
            self._images.extend(_reload_latest_images(trainer, self.num_batches))
        sites = grid_sites(get_model(pl_module))
        if not sites:
            rank_zero_warn(
                "callbacks.grid has nothing to do: no basis of this model has inputs outside its domain "
                "(bspline, rbf or rswaf without a squash have)"
            )
        sizes = [size for epoch, size in sorted(self.refine_at.items()) if epoch > trainer.current_epoch]
        cells = {site.name: site.num_cells for site in sites if site.num_cells is not None}
        if sizes and not cells:
            raise ValueError(
                "callbacks.grid.refine_at: no basis of this model can be refined; basis=bspline can"
            )
        if sizes:
            check_strategy(trainer, "callbacks.grid.refine_at makes new")
        for name, size in cells.items():
            for refined in sizes:
                if refined % size:
                    raise ValueError(
                        f"callbacks.grid.refine_at: {refined} cells are no multiple of the {size} that "
                        f"{name} has before"
                    )
                size = refined

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Fit the grids of a fresh run to the first inputs."""
        if not self.at_start or batch_idx or trainer.global_step or trainer.current_epoch:
            return
        with trainer.precision_plugin.forward_context():
            domains = init_grids(
                get_model(pl_module), [_to_memory_format(pl_module, batch["image"])], **self._range
            )
        for average in list_ema_models(trainer):
            for site in grid_sites(average):
                if site.name in domains:
                    site.grid.move(*domains[site.name])

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the images."""
        self._images.append(batch["image"])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure inputs, move grids and refine grids, in this order."""
        model = get_model(pl_module)
        sites = grid_sites(model)
        if not sites or not self._images:
            return
        images = [_to_memory_format(pl_module, batch) for batch in self._images]
        num_epochs = trainer.current_epoch + 1
        with trainer.precision_plugin.forward_context():
            ranges = measure_inputs(model, images, sites)
            shares = [values.share_outside for values in ranges.values()]
            metrics = {"grid/outside": sum(shares) / len(shares), "grid/outside_worst": max(shares)}
            every = self.move_every_n_epochs
            if num_epochs in self.move_at or (every is not None and num_epochs % every == 0):
                moves = move_grids(model, images, ranges=ranges, max_change=self.max_change, **self._range)
                for move in moves:
                    self._apply_move(trainer, sites, move)
                metrics["grid/change"] = max((move.change for move in moves), default=0.0)
        for name, value in metrics.items():
            pl_module.log(name, value, on_step=False, on_epoch=True, sync_dist=True)
        if num_epochs in self.refine_at:
            self._refine(trainer, pl_module, self.refine_at[num_epochs])
        self._images.clear()

    def _apply_move(self, trainer: pl.Trainer, sites: Sequence[GridSite], move: GridMove) -> None:
        """Apply the maps of moved weights to the optimizer's state and to averaged weights."""
        (site,) = (site for site in sites if site.name == move.site)
        for layer_name, matrix in move.weights.items():
            layer = site.layers[layer_name]
            weight = layer.basis_weight
            for optimizer in trainer.optimizers:
                replace_parameter(optimizer, weight, weight, _map_state(matrix, layer.groups))
        for average in list_ema_models(trainer) if move.weights else ():
            for layer_name, matrix in move.weights.items():
                averaged: Any = average.get_submodule(layer_name)
                with torch.no_grad():
                    averaged.basis_weight.copy_(map_functions(averaged.basis_weight, matrix, averaged.groups))
            averaged.basis.move(*move.new)

    def _refine(self, trainer: pl.Trainer, pl_module: pl.LightningModule, size: int) -> None:
        for site in grid_sites(get_model(pl_module)):
            if site.num_cells is not None and site.num_cells != size:
                factor = size // site.num_cells
                change_site(trainer, pl_module, "refine_grid", site, _map_state, factor=factor)
        rewrap_ddp(trainer, pl_module)


def _reload_latest_images(trainer: pl.Trainer, num_batches: int) -> Iterator[Tensor]:
    """Yield the images of the latest batches of a resumed epoch, loaded again."""
    loader = trainer.train_dataloader
    if isinstance(loader, Rereadable):
        for batch in loader.reload_batches(range(max(0, loader.position - num_batches), loader.position)):
            yield trainer.strategy.batch_to_device(batch["image"])


def _to_memory_format(pl_module: pl.LightningModule, images: Tensor) -> Tensor:
    return images.to(memory_format=cast(torch.memory_format, pl_module.memory_format))


def _map_state(matrix: Tensor, groups: int) -> Callable[[Tensor], Tensor]:
    """Return the map of an optimizer's state for weights that are mapped by w' = M w.

    Momenta are mapped like weights, so that the function keeps its direction of change. Mean squares, which
    are not negative, become means over the functions that a new function is a sum of, weighted by |M|; if it
    is a sum of none, over all functions.
    """
    sizes = matrix.abs()
    total = sizes.sum(-1, keepdim=True)
    shares = torch.where(total > 0, sizes / total.clamp_min(1e-300), 1 / matrix.shape[-1])

    def convert(state: Tensor) -> Tensor:
        return map_functions(state, shares if bool((state >= 0).all()) else matrix, groups)

    return convert
