"""Selection of each layer's basis in training (S-KAN): train all bases, train gates, keep one basis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.optim import Optimizer

from kanvision.layers import SelectionSite, add_auxiliary, map_functions, selection_sites, structure_changes

from .checkpointing import BestCheckpoint
from .epoch_state import is_resumed_within_epoch
from .structure_change import change_site, check_strategy, get_model, list_ema_models, rewrap_ddp

__all__ = ["BasisSelection"]


class BasisSelection(Callback):
    """Trains the selectable bases of a model in three phases, and keeps one basis per layer.

    Yang et al. 2024, "Activation Space Selectable Kolmogorov-Arnold Networks" (arXiv 2408.08338):

    1. `train_epochs` epochs in which all gates are equal;
    2. `select_epochs` epochs in which the gates follow the learned logits, at a temperature that falls from
       epoch to epoch by a constant factor;
    3. the other epochs, in which each layer has only the basis of its largest logit.

    At the start of the third phase the other bases are removed from the model
    (`kanvision.layers.select_basis`), from the average of its weights (`EMAWeights`) and from the optimizer,
    which keeps the momenta of the remaining weights. The best checkpoint is reset, so that it is one with a
    single basis per layer. Checkpoints hold the selection as changes of structure, so that resume and
    evaluation work.

    Logged at the end of every epoch of the second phase, and once at the selection:

    * `selection/<basis>`: number of layers whose largest logit is that of this basis;
    * `selection/entropy`: mean entropy of the gates, from 0 (one gate open) to 1 (all equal);
    * `selection/layers/<layer>`: index of the layer's basis in its pool, from 0.

    Args:
        train_epochs: Number of epochs of the first phase; None: a third of all epochs.
        select_epochs: Number of epochs of the second phase; None: a third of all epochs. Both are shortened
            in proportion if they would leave no epoch to the third phase.
        start_temperature: Temperature of the gates in the first epoch of the second phase.
        end_temperature: Temperature of the gates in the last epoch of the second phase.
        entropy_weight: Weight of the mean entropy of the gates in the training loss of the second phase,
            multiplied by `loss.auxiliary`. Above 0, the gates become sharper.

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
        """Check that there are epochs for all phases; warn if the model has no selectable basis."""
        model = get_model(pl_module)
        if not selection_sites(model):
            if not any(change["kind"] == "select_basis" for change in structure_changes(model)):
                rank_zero_warn(
                    "callbacks.selection has nothing to do: no layer of this model has a selectable basis; "
                    "basis=selectable gives them one"
                )
            return
        first, second = self._phase_lengths(trainer)
        epochs = trainer.max_epochs or 0
        if epochs < 2:
            raise ValueError(
                f"trainer.max_epochs={epochs}: callbacks.selection needs 2, one to select the bases and "
                "one to train them"
            )
        if (first, second) != self._requested_lengths(epochs):
            rank_zero_warn(
                f"callbacks.selection: train_epochs={first} and select_epochs={second}, so that "
                f"trainer.max_epochs={epochs} leaves an epoch for the selected bases"
            )
        check_strategy(trainer, "callbacks.selection removes")
        if is_resumed_within_epoch(trainer):
            self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the phase of the epoch, and prune in the first epoch of the third phase."""
        model = get_model(pl_module)
        sites = selection_sites(model)
        if not sites:
            return
        first, second = self._phase_lengths(trainer)
        epoch = trainer.current_epoch - first
        if epoch >= second:
            self._prune(trainer, pl_module, sites)
            return
        is_second = epoch >= 0
        progress = epoch / (second - 1) if second > 1 else 1.0
        temperature = self.start_temperature ** (1 - progress) * self.end_temperature**progress
        for each in (model, *list_ema_models(trainer)):
            for site in selection_sites(each):
                if is_second:
                    site.basis.set_phase("select", temperature)
                else:
                    site.basis.set_phase("train")
        if is_second and self.entropy_weight and self._penalty is None:
            self._penalty = pl_module.register_forward_hook(self._add_entropy)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the gates."""
        sites = selection_sites(get_model(pl_module))
        if sites and trainer.current_epoch >= self._phase_lengths(trainer)[0]:
            self._log(pl_module, sites)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Remove the hook from the task."""
        self._remove_penalty()

    def _phase_lengths(self, trainer: pl.Trainer) -> tuple[int, int]:
        """Return the numbers of epochs of the first two phases."""
        epochs = trainer.max_epochs or 0
        first, second = self._requested_lengths(epochs)
        if first + second < epochs:
            return first, second
        shortened = max(1, (epochs - 1) * second // (first + second))
        return max(0, epochs - 1 - shortened), shortened

    def _requested_lengths(self, epochs: int) -> tuple[int, int]:
        third = max(1, epochs // 3)
        first, second = (third if n is None else n for n in (self.train_epochs, self.select_epochs))
        return first, second

    def _add_entropy(self, module: nn.Module, args: Any, output: Any) -> None:
        if module.training:
            entropies = [site.basis.entropy() for site in selection_sites(module)]
            add_auxiliary(self.entropy_weight * torch.stack(entropies).mean())

    def _remove_penalty(self) -> None:
        if self._penalty is not None:
            self._penalty.remove()
            self._penalty = None

    def _log(self, pl_module: pl.LightningModule, sites: Collection[SelectionSite]) -> None:
        pools = {name: list(site.basis.members) for site in sites for name in site.layers}
        selected = {name: site.basis.selection()[0] for site in sites for name in site.layers}
        counts = Counter(selected.values())
        metrics: dict[str, float] = {
            f"selection/{name}": counts[name]
            for name in dict.fromkeys(name for pool in pools.values() for name in pool)
        }
        entropies = [float(site.basis.entropy().detach()) for site in sites]
        metrics["selection/entropy"] = sum(entropies) / len(entropies)
        metrics |= {f"selection/layers/{name}": pools[name].index(basis) for name, basis in selected.items()}
        # equal on all ranks, which have the same logits
        for name, value in metrics.items():
            pl_module.log(name, float(value), on_step=False, on_epoch=True, rank_zero_only=True)

    def _prune(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, sites: Collection[SelectionSite]
    ) -> None:
        self._remove_penalty()
        selected = {site.name: site.basis.selection()[0] for site in sites}
        self._log(pl_module, sites)
        # averages have gates of their own, and get the selection of the trained model
        for site in sites:
            member = selected[site.name]
            change_site(trainer, pl_module, "select_basis", site, _map_state_of_scaled, member=member)
        parameters = {id(parameter) for parameter in pl_module.parameters()}
        has_fewer_groups = [_remove_others(optimizer, parameters) for optimizer in trainer.optimizers]
        if any(has_fewer_groups):
            pl_module.on_train_start()  # builds a schedule of fewer groups
        rewrap_ddp(trainer, pl_module)
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, BestCheckpoint):
                callback.reset_best()
        bases = {name: selected[site.name] for site in sites for name in site.layers}
        pl_module.print(_describe_selection(bases))


def _map_state_of_scaled(matrix: Tensor, groups: int) -> Callable[[Tensor], Tensor]:
    """Return the map of an optimizer's state for weights of which some remain, scaled by a factor f.

    Gradients of the scaled weights are 1/f times as large. So momenta are divided by f, and mean squares,
    which are not negative, by its square.
    """
    factor = float(matrix.max())

    def convert(state: Tensor) -> Tensor:
        power = 2 if bool((state >= 0).all()) else 1
        return map_functions(state, matrix / factor ** (1 + power), groups)

    return convert


def _remove_others(optimizer: Optimizer, parameters: Collection[int]) -> bool:
    """Remove other parameters than those with some identities; return True if there are fewer groups then."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if id(parameter) not in parameters:
                optimizer.state.pop(parameter, None)
        group["params"] = [parameter for parameter in group["params"] if id(parameter) in parameters]
    groups = [group for group in optimizer.param_groups if group["params"]]
    has_fewer_groups = len(groups) < len(optimizer.param_groups)
    optimizer.param_groups[:] = groups
    return has_fewer_groups


def _describe_selection(bases: dict[str, str]) -> str:
    counts = Counter(bases.values()).most_common()
    layers = ", ".join(f"{name or 'the layer'} {member}" for name, member in bases.items())
    return f"selected bases: {', '.join(f'{count} {name}' for name, count in counts)} ({layers})"
