"""Choosing the basis of each layer in training (S-KAN): train all, let gates decide, keep the chosen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.optim import Optimizer

from kanvision.layers import (
    SelectionSite,
    add_auxiliary,
    change_structure,
    map_functions,
    selection_sites,
    structure_changes,
)
from kanvision.optim import replace_parameter

from .checkpointing import BestCheckpoint
from .epoch_state import resumes_within_epoch
from .structure_change import exchange_again, list_ema_networks, network_of

__all__ = ["BasisSelection"]


class BasisSelection(Callback):
    """Takes the selectable bases of a network through their three phases.

    Yang et al. 2024, "Activation Space Selectable Kolmogorov-Arnold Networks" (arXiv 2408.08338):

    1. `train_epochs` epochs in which all gates are alike;
    2. `select_epochs` epochs in which the gates follow the learned logits, at a temperature that falls from
       epoch to epoch by the same factor;
    3. the rest, with the basis of the largest logit in each layer and nothing else.

    At the start of the third phase the other members are cut out of the network
    (`kanvision.layers.select_basis`), of the average of its weights (`EMAWeights`) and of the optimizer,
    whose momenta go with the weights that stay; and the best checkpoint is looked for anew, among networks
    with one basis a layer. Checkpoints carry the choices as changes of structure, so that resuming and
    evaluating work.

    Logged at the end of every epoch of the second phase, and once the choice is made:

    * `selection/<basis>`: number of layers whose largest logit is that of this basis;
    * `selection/entropy`: mean entropy of the gates, 1: all alike, 0: decided;
    * `selection/layers/<layer>`: place in the pool of the layer's basis, from 0.

    Args:
        train_epochs: Of the first phase; None: a third of the epochs.
        select_epochs: Of the second phase; None: a third of the epochs. Both are shortened, in proportion,
            where they would leave no epoch to the third phase.
        start_temperature: Of the gates in the first epoch of the second phase.
        end_temperature: In its last epoch.
        entropy_weight: Weight of the mean entropy of the gates in the training loss of the second phase, on
            top of `loss.auxiliary`: above 0 it makes them decide.

    Raises:
        ValueError: If a number is out of range, or (at the start of training) the training has one epoch.
    """

    def __init__(
        self,
        train_epochs: int | None = None,
        select_epochs: int | None = None,
        start_temperature: float = 1.0,
        end_temperature: float = 0.1,
        entropy_weight: float = 0.0,
    ) -> None:
        for key, epochs in (("train_epochs", train_epochs), ("select_epochs", select_epochs)):
            if epochs is not None and epochs < (key == "select_epochs"):
                raise ValueError(
                    f"callbacks.selection.{key}={epochs} must be at least {int(key == 'select_epochs')}"
                )
        for key, value in (("start_temperature", start_temperature), ("end_temperature", end_temperature)):
            if not value > 0:
                raise ValueError(f"callbacks.selection.{key}={value} must be positive")
        if entropy_weight < 0:
            raise ValueError(f"callbacks.selection.entropy_weight={entropy_weight} must not be negative")
        self.train_epochs = train_epochs
        self.select_epochs = select_epochs
        self.start_temperature = start_temperature
        self.end_temperature = end_temperature
        self.entropy_weight = entropy_weight
        self._penalty: torch.utils.hooks.RemovableHandle | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look whether there is something to choose, and time to choose it."""
        network = network_of(pl_module)
        if not selection_sites(network):
            if not any(change["kind"] == "select_basis" for change in structure_changes(network)):
                rank_zero_warn(
                    "callbacks.selection has nothing to do: no layer of this network has a selectable basis; "
                    "basis=selectable gives them one"
                )
            return
        first, second = self._lengths(trainer)
        epochs = trainer.max_epochs or 0
        if epochs < 2:
            raise ValueError(
                f"trainer.max_epochs={epochs}: callbacks.selection needs 2, one to choose the bases and "
                "one to train them"
            )
        if (first, second) != self._wanted(epochs):
            rank_zero_warn(
                f"callbacks.selection: train_epochs={first} and select_epochs={second}, so that "
                f"trainer.max_epochs={epochs} leaves an epoch for the chosen bases"
            )
        if trainer.world_size > 1 and type(trainer.strategy) is not DDPStrategy:
            raise ValueError(
                f"callbacks.selection takes parameters out, which {type(trainer.strategy).__name__} does not "
                "learn of in training; legal: one process, or trainer.strategy=ddp"
            )
        if resumes_within_epoch(trainer):
            self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the phase of the epoch, and prune at the first one of the third phase."""
        network = network_of(pl_module)
        sites = selection_sites(network)
        if not sites:
            return
        first, second = self._lengths(trainer)
        step = trainer.current_epoch - first
        if step >= second:
            self._prune(trainer, pl_module, sites)
            return
        selects = step >= 0
        for model in (network, *list_ema_networks(trainer)):
            for site in selection_sites(model):
                if selects:
                    site.basis.set_phase("select", self._temperature(step, second))
                else:
                    site.basis.set_phase("train")
        if selects and self.entropy_weight and self._penalty is None:
            self._penalty = pl_module.register_forward_hook(self._penalize)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log what the gates have come to."""
        sites = selection_sites(network_of(pl_module))
        if sites and trainer.current_epoch >= self._lengths(trainer)[0]:
            self._log(pl_module, sites)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave nothing behind on the task."""
        self._remove_penalty()

    def _lengths(self, trainer: pl.Trainer) -> tuple[int, int]:
        """Epochs of the first two phases."""
        epochs = trainer.max_epochs or 0
        first, second = self._wanted(epochs)
        if first + second < epochs:
            return first, second
        shortened = max(1, (epochs - 1) * second // (first + second))
        return max(0, epochs - 1 - shortened), shortened

    def _wanted(self, epochs: int) -> tuple[int, int]:
        third = max(1, epochs // 3)
        first, second = (third if n is None else n for n in (self.train_epochs, self.select_epochs))
        return first, second

    def _temperature(self, step: int, steps: int) -> float:
        share = step / (steps - 1) if steps > 1 else 1.0
        return float(self.start_temperature ** (1 - share) * self.end_temperature**share)

    def _penalize(self, module: nn.Module, args: Any, output: Any) -> None:
        if module.training:
            entropies = [site.basis.entropy() for site in selection_sites(module)]
            add_auxiliary(self.entropy_weight * torch.stack(entropies).mean())

    def _remove_penalty(self) -> None:
        if self._penalty is not None:
            self._penalty.remove()
            self._penalty = None

    def _log(self, pl_module: pl.LightningModule, sites: Collection[SelectionSite]) -> None:
        pools = {name: list(site.basis.members) for site in sites for name in site.layers}
        choices = {name: site.basis.selection()[0] for site in sites for name in site.layers}
        counts = Counter(choices.values())
        found: dict[str, float] = {
            f"selection/{name}": counts[name]
            for name in dict.fromkeys(name for pool in pools.values() for name in pool)
        }
        entropies = [float(site.basis.entropy().detach()) for site in sites]
        found["selection/entropy"] = sum(entropies) / len(entropies)
        found |= {f"selection/layers/{name}": pools[name].index(chosen) for name, chosen in choices.items()}
        # The same on all processes, which have the same logits.
        for name, value in found.items():
            pl_module.log(name, float(value), on_step=False, on_epoch=True, rank_zero_only=True)

    def _prune(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, sites: Collection[SelectionSite]
    ) -> None:
        self._remove_penalty()
        network = network_of(pl_module)
        choices = {site.name: site.basis.selection()[0] for site in sites}
        self._log(pl_module, sites)
        for site in sites:
            member = choices[site.name]
            before = {name: layer.basis_weight for name, layer in site.layers.items()}
            matrix = change_structure(network, "select_basis", site.name, member=member)
            for name, layer in site.layers.items():
                for optimizer in trainer.optimizers:
                    convert = _of_scaled_weights(matrix, layer.groups)
                    replace_parameter(optimizer, before[name], layer.basis_weight, convert)
        # The average has gates of its own, and goes the way of the network.
        for average in list_ema_networks(trainer):
            for name, member in choices.items():
                change_structure(average, "select_basis", name, member=member)
        alive = {id(parameter) for parameter in pl_module.parameters()}
        shrunk = [_forget(optimizer, alive) for optimizer in trainer.optimizers]
        if any(shrunk):
            pl_module.on_train_start()  # a schedule of fewer groups
        exchange_again(trainer, pl_module)
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, BestCheckpoint):
                callback.start_over()
        pl_module.print(_sentence({name: choices[site.name] for site in sites for name in site.layers}))


def _of_scaled_weights(matrix: Tensor, groups: int) -> Callable[[Tensor], Tensor]:
    """What becomes of an optimizer's state when some weights stay, times a factor f.

    As if they had been trained like that from the start: gradients, and with them momenta, are divided by f,
    and their squares, which are nowhere negative, by its square.
    """
    factor = float(matrix.max())

    def convert(state: Tensor) -> Tensor:
        power = 2 if bool((state >= 0).all()) else 1
        return map_functions(state, matrix / factor ** (1 + power), groups)

    return convert


def _forget(optimizer: Optimizer, alive: Collection[int]) -> bool:
    """Take parameters that are not in the network any more out of an optimizer; whether groups went too."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if id(parameter) not in alive:
                optimizer.state.pop(parameter, None)
        group["params"] = [parameter for parameter in group["params"] if id(parameter) in alive]
    left = [group for group in optimizer.param_groups if group["params"]]
    shrunk = len(left) < len(optimizer.param_groups)
    optimizer.param_groups[:] = left
    return shrunk


def _sentence(choices: dict[str, str]) -> str:
    counts = Counter(choices.values()).most_common()
    layers = ", ".join(f"{name or 'the layer'} {member}" for name, member in choices.items())
    return f"chosen bases: {', '.join(f'{count} {name}' for name, count in counts)} ({layers})"
