"""Averages of the weights in training: exponential moving average and stochastic weight averaging."""

from __future__ import annotations

from abc import abstractmethod
from itertools import compress
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.trainer.states import TrainerFn
from timm.utils import distribute_bn
from torch import Tensor, nn

__all__ = ["AveragedWeights", "EMAWeights", "SWAWeights", "list_averages"]


class AveragedWeights(WeightAveraging):
    """Average of the weights, average = (1 - w) * average + w * weights; subclasses choose w at each step.

    The average starts from the initial weights. Running statistics are averaged like weights, and counters
    are copied. Validation uses the average. In checkpoints `state_dict` is the average and
    `current_model_state` the weights of the optimizer. When training ends the task's model holds the average;
    a later test uses the weights that are loaded for it.

    Differences from Lightning's callback, whose state and swapping this one uses:

    * The average starts from the initial weights and not from those after the first step, as in timm, with
      which the published recipes were run.
    * Integers are copied, not averaged and truncated.
    * The average is on the device of training, in float32 at least (steps of 1e-4 vanish in bfloat16).
    * The average ends with training. It would otherwise be swapped into, or loaded over, the model of a later
      `trainer.validate` or `trainer.test`.
    * After an exception within validation, the task has the weights of the optimizer.
    """

    def __init__(self) -> None:
        super().__init__()
        self._own_weights: list[Tensor] | None = None

    @abstractmethod
    def step_weight(self, trainer: pl.Trainer) -> float | None:
        """Return the weight w of the new weights after an optimizer step; None: no update."""

    @property
    def num_updates(self) -> int:
        """Number of updates so far; to read it is to wait for the device."""
        assert self._average_model is not None
        return int(self._average_model.n_averaged) - 1

    @property
    def averaged(self) -> pl.LightningModule | None:
        """Task with the average; None outside of training. Changes of structure apply to it as well."""
        return None if self._average_model is None else cast(pl.LightningModule, self._average_model.module)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Start the average from the initial weights."""
        if stage == "fit":
            self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None:
            # 0 would make the first update a copy
            self._average_model.n_averaged.fill_(1)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the average after an optimizer step."""
        if trainer.global_step > self._latest_update_step:
            self._latest_update_step = trainer.global_step
            if (weight := self.step_weight(trainer)) is not None:
                self.update(pl_module, weight)

    @torch.no_grad()
    def update(self, pl_module: pl.LightningModule, weight: float) -> None:
        """Update the average with the weights of a task, which have the weight w."""
        assert self._average_model is not None
        average = self._average_model
        averaged = _tensors(average.module)
        new = [value.to(old.dtype) for old, value in zip(averaged, _tensors(pl_module), strict=True)]
        is_float = [value.is_floating_point() for value in averaged]
        torch._foreach_lerp_(list(compress(averaged, is_float)), list(compress(new, is_float)), weight)
        for old, value, floating in zip(averaged, new, is_float, strict=True):
            if not floating:
                old.copy_(value)
        average.n_averaged += 1

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Swap the average into the task."""
        self._reduce_statistics(trainer)
        super().on_validation_epoch_start(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reduce the batch-norm statistics of the average before it is saved."""
        super().on_train_epoch_end(trainer, pl_module)
        self._reduce_statistics(trainer)

    def _reduce_statistics(self, trainer: pl.Trainer) -> None:
        """Average batch-norm statistics over the ranks, each of which has seen its own images."""
        if self._average_model is not None and trainer.world_size > 1:
            distribute_bn(self._average_model, trainer.world_size, reduce=True)  # type: ignore[no-untyped-call]

    def _swap_models(self, pl_module: pl.LightningModule) -> None:
        """Copy the average into the model, or restore the model's own weights; the average is unchanged.

        Lightning swaps the two, which would round the average to the precision of the model.
        """
        tensors = _tensors(pl_module)
        if self._own_weights is None:
            self._own_weights = [tensor.detach().clone() for tensor in tensors]
            self._copy_average_to_current(pl_module)
        else:
            for tensor, own in zip(tensors, self._own_weights, strict=True):
                tensor.data.copy_(own)
            self._own_weights = None

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Undo a swap that the end of validation did not, before any checkpoint is written."""
        if self._own_weights is not None:
            self._swap_models(pl_module)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Delete the average, which the model holds by now."""
        self._average_model = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the average as `state_dict`."""
        if self._average_model is not None:
            super().on_save_checkpoint(trainer, pl_module, checkpoint)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore weights and average when training is resumed."""
        if trainer.state.fn == TrainerFn.FITTING:
            if self.averaged is not None:
                self.averaged.on_load_checkpoint(checkpoint)  # restores its structure
            super().on_load_checkpoint(trainer, pl_module, checkpoint)


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def list_averages(trainer: pl.Trainer) -> list[pl.LightningModule]:
    """Return the tasks with averaged weights of a training."""
    callbacks = cast(Any, trainer).callbacks
    averages = [each.averaged for each in callbacks if isinstance(each, AveragedWeights)]
    return [average for average in averages if average is not None]


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
        if not self.warmup:
            return 1.0 - self.decay
        count = self.num_updates
        return 1.0 - min(self.decay, (1 + count) / (10 + count))


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
