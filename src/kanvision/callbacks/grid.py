"""Care for the grids of KAN layers in training: watching what they cover, moving them, making them finer."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, cast, runtime_checkable

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from kanvision.layers import (
    GridSite,
    change_structure,
    grid_sites,
    init_grids,
    map_functions,
    measure_inputs,
    move_grids,
)
from kanvision.optim import replace_parameter

from .epoch_state import resumes_within_epoch
from .structure_change import exchange_again, list_ema_networks, network_of

__all__ = ["GridUpdate"]


@runtime_checkable
class Rereadable(Protocol):
    """A loader that knows how many batches of the epoch it has given, and can load them again."""

    position: int

    def again(self, steps: range) -> Iterator[Any]: ...


class GridUpdate(Callback):
    """Watches what reaches the grids of KAN layers, moves them and refines them at the end of epochs.

    It looks at the last training images of the epoch (before mixing), on every process at its own, and counts
    them together; all processes change their networks alike. Logged for every epoch, as found before it acts:

    * `grid/outside`: share of the inputs outside the domain of their basis, mean over bases;
    * `grid/outside_worst`: that of the worst basis;
    * `grid/change`, where grids were moved: largest relative change of a layer's functions.

    Moving keeps shapes, and works under every strategy that keeps whole parameters. Refining makes new
    parameters: their place in the groups of the optimizer, momenta and mean squares go with them, through the
    map of the weights (for moves as well). An average of the weights (`EMAWeights`) is changed in the same
    way. Checkpoints carry grids in the weights, and how many functions they have as changes of structure, so
    that resuming and evaluating work.

    Args:
        at_start: Before the first step of a fresh run, put the grids where the inputs of the first batch
            are. Weights stay, so not for networks that have learned.
        move_every_n_epochs: Move the grids after each so many epochs; None: never.
        move_at: Numbers of epochs after which grids are moved, beside these.
        refine_at: Cells of the grid by the number of epochs after which it gets so many; each a multiple of
            what was before, as {10: 10, 20: 20} for a basis that starts with 5.
        num_batches: Batches to look at.
        quantile: Share of the inputs that a grid may leave out at either end.
        margin: Width beside the inputs at either end, relative to theirs.
        max_change: How far a move may change the functions of a layer; None: no limit.

    Raises:
        ValueError: If a number is out of range, or (at the start of training) a grid cannot be refined as
            asked.
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
        """Look whether there is something to care for, and whether all refinements to come are possible."""
        self._images.clear()
        if resumes_within_epoch(trainer):
            self._images.extend(_latest_images(trainer, self.num_batches))
        sites = grid_sites(network_of(pl_module))
        if not sites:
            rank_zero_warn(
                "callbacks.grid has nothing to do: no basis of this network has inputs outside its domain "
                "(bspline, rbf or rswaf without a squash have)"
            )
        sizes = [size for epoch, size in sorted(self.refine_at.items()) if epoch > trainer.current_epoch]
        cells = {site.name: site.num_cells for site in sites if site.num_cells is not None}
        if sizes and not cells:
            raise ValueError(
                "callbacks.grid.refine_at: no basis of this network can be refined; basis=bspline can"
            )
        if sizes and trainer.world_size > 1 and type(trainer.strategy) is not DDPStrategy:
            raise ValueError(
                f"callbacks.grid.refine_at makes new parameters, which {type(trainer.strategy).__name__} "
                "cannot take up in training; legal: one process, or trainer.strategy=ddp"
            )
        for name, size in cells.items():
            for wanted in sizes:
                if wanted % size:
                    raise ValueError(
                        f"callbacks.grid.refine_at: {wanted} cells are no multiple of the {size} that "
                        f"{name} has before"
                    )
                size = wanted

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Put the grids of a fresh run where the first inputs are."""
        if not self.at_start or batch_idx or trainer.global_step or trainer.current_epoch:
            return
        with trainer.precision_plugin.forward_context():
            domains = init_grids(network_of(pl_module), [_prepared(pl_module, batch["image"])], **self._range)
        for average in list_ema_networks(trainer):
            for site in grid_sites(average):
                if site.name in domains:
                    site.grid.move(*domains[site.name])

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remember the images."""
        self._images.append(batch["image"])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure, move and refine, in this order."""
        network = network_of(pl_module)
        sites = grid_sites(network)
        if not sites or not self._images:
            return
        images = [_prepared(pl_module, batch) for batch in self._images]
        done = trainer.current_epoch + 1
        with trainer.precision_plugin.forward_context():
            ranges = measure_inputs(network, images, sites)
            shares = [values.share_outside for values in ranges.values()]
            found = {"grid/outside": sum(shares) / len(shares), "grid/outside_worst": max(shares)}
            if self._moves(done):
                moves = move_grids(network, images, ranges=ranges, max_change=self.max_change, **self._range)
                for move in moves:
                    self._follow(trainer, sites, move.site, move.new, move.weights)
                found["grid/change"] = max((move.change for move in moves), default=0.0)
        for name, value in found.items():
            pl_module.log(name, value, on_step=False, on_epoch=True, sync_dist=True)
        if done in self.refine_at:
            self._refine(trainer, pl_module, self.refine_at[done])
        self._images.clear()

    def _moves(self, done: int) -> bool:
        every = self.move_every_n_epochs
        return done in self.move_at or (every is not None and done % every == 0)

    def _follow(
        self,
        trainer: pl.Trainer,
        sites: Sequence[GridSite],
        name: str,
        domain: tuple[float, float],
        maps: Mapping[str, Tensor],
    ) -> None:
        """What belongs to weights that were moved goes with them."""
        (site,) = (site for site in sites if site.name == name)
        for layer_name, matrix in maps.items():
            layer = site.layers[layer_name]
            weight = layer.basis_weight
            for optimizer in trainer.optimizers:
                replace_parameter(optimizer, weight, weight, _momenta(matrix, layer.groups))
        for average in list_ema_networks(trainer) if maps else ():
            for layer_name, matrix in maps.items():
                averaged: Any = average.get_submodule(layer_name)
                with torch.no_grad():
                    averaged.basis_weight.copy_(map_functions(averaged.basis_weight, matrix, averaged.groups))
            averaged.basis.move(*domain)

    def _refine(self, trainer: pl.Trainer, pl_module: pl.LightningModule, size: int) -> None:
        network = network_of(pl_module)
        for site in grid_sites(network):
            if site.num_cells is None or site.num_cells == size:
                continue
            factor = size // site.num_cells
            before = {name: layer.basis_weight for name, layer in site.layers.items()}
            matrix = change_structure(network, "refine_grid", site.name, factor=factor)
            for average in list_ema_networks(trainer):
                change_structure(average, "refine_grid", site.name, factor=factor)
            for name, layer in site.layers.items():
                for optimizer in trainer.optimizers:
                    convert = _momenta(matrix, layer.groups)
                    replace_parameter(optimizer, before[name], layer.basis_weight, convert)
        exchange_again(trainer, pl_module)


def _latest_images(trainer: pl.Trainer, num_batches: int) -> Iterator[Tensor]:
    """Images of the latest batches of the epoch that goes on, loaded again."""
    loader = trainer.train_dataloader
    if isinstance(loader, Rereadable):
        for batch in loader.reload_batches(range(max(0, loader.position - num_batches), loader.position)):
            yield trainer.strategy.batch_to_device(batch["image"])


def _prepared(pl_module: pl.LightningModule, images: Tensor) -> Tensor:
    return images.to(memory_format=cast(torch.memory_format, pl_module.memory_format))


def _momenta(matrix: Tensor, groups: int) -> Any:
    """What becomes of an optimizer's state when weights are mapped by w' = M w.

    Directions (momenta) are mapped like weights, so that the function goes on in the direction that it had.
    Sizes, which are nowhere negative (mean squares), become means over the functions that a new one is made
    of, weighted by |M|; where it is made of none, over all.
    """
    sizes = matrix.abs()
    total = sizes.sum(-1, keepdim=True)
    shares = torch.where(total > 0, sizes / total.clamp_min(1e-300), 1 / matrix.shape[-1])

    def convert(state: Tensor) -> Tensor:
        return map_functions(state, shares if bool((state >= 0).all()) else matrix, groups)

    return convert
