"""Exponential moving average of the weights."""

from __future__ import annotations

from itertools import compress
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.trainer.states import TrainerFn
from timm.utils import distribute_bn
from torch import Tensor, nn

__all__ = ["EMAWeights", "ema_decay"]


def ema_decay(decay: float, warmup: bool, num_updates: int) -> float:
    """Share of the old average at the next update: `decay`, with warm-up at most (1 + t) / (10 + t)."""
    return min(decay, (1 + num_updates) / (10 + num_updates)) if warmup else decay


class EMAWeights(WeightAveraging):
    """Keeps average = d * average + (1 - d) * weights over optimizer steps, from the initial weights on.

    Running statistics are averaged like weights, counters are copied. Validation runs on the average; in
    checkpoints `state_dict` is the average and `current_model_state` the weights of the optimizer; when
    training ends the task's network holds the average, and whatever is loaded for a later test is tested as
    loaded.

    Differences from Lightning's callback, whose state and swapping this uses: the average starts from the
    initial weights and not from those after the first step (so timm, with which the published recipes were
    run); integers are copied, not truncated averages; the average lives on the device of training, not where
    the network was built, in float32 at least (steps of 1e-4 vanish in bfloat16); it ends with the training
    run, since it would otherwise be swapped into, or loaded over, what a later `trainer.validate` or
    `trainer.test` is given; and an exception within validation leaves the right weights behind.

    Args:
        decay: d.
        warmup: Use min(d, (1 + t) / (10 + t)) for the t-th update, t = 0, 1, ...

    Raises:
        ValueError: If decay is not between 0 and 1.
    """

    def __init__(self, decay: float = 0.9999, warmup: bool = False) -> None:
        if not 0.0 < decay < 1.0:
            raise ValueError(f"ema.decay={decay} must lie between 0 and 1")
        super().__init__()
        self.decay, self.warmup = decay, warmup
        self._own_weights: list[Tensor] | None = None

    @property
    def averaged(self) -> pl.LightningModule | None:
        """The task with the average; None outside of training. Who changes a network changes this too."""
        return None if self._average_model is None else cast(pl.LightningModule, self._average_model.module)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Start the average from the network as it is."""
        if stage == "fit":
            self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None:
            # 0 would make the first update a copy
            self._average_model.n_averaged.fill_(1)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the average after each optimizer step."""
        if trainer.global_step > self._latest_update_step:
            self.update(pl_module)
            self._latest_update_step = trainer.global_step

    @torch.no_grad()
    def update(self, pl_module: pl.LightningModule) -> None:
        """Take the weights of a task into the average."""
        assert self._average_model is not None
        average = self._average_model
        kept = _tensors(average.module)
        new = [value.to(old.dtype) for old, value in zip(kept, _tensors(pl_module), strict=True)]
        is_float = [value.is_floating_point() for value in kept]
        # reading the counter waits for the device, so only where it is needed
        num_updates = int(average.n_averaged) - 1 if self.warmup else 0
        share = 1.0 - ema_decay(self.decay, self.warmup, num_updates)
        torch._foreach_lerp_(list(compress(kept, is_float)), list(compress(new, is_float)), share)
        for old, value, floating in zip(kept, new, is_float, strict=True):
            if not floating:
                old.copy_(value)
        average.n_averaged += 1

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validate the average."""
        self._share_statistics(trainer)
        super().on_validation_epoch_start(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make the average that is saved that of all processes."""
        super().on_train_epoch_end(trainer, pl_module)
        self._share_statistics(trainer)

    def _share_statistics(self, trainer: pl.Trainer) -> None:
        """Average batch-norm statistics over processes, each of which has seen its own images."""
        if self._average_model is not None and trainer.world_size > 1:
            distribute_bn(self._average_model, trainer.world_size, reduce=True)  # type: ignore[no-untyped-call]

    def _swap_models(self, pl_module: pl.LightningModule) -> None:
        """Lend the network the average, or give it its own weights back; the average stays as it is.

        Lightning exchanges the two, which would round the average to the precision of the network.
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
        """Undo a swap that validation could not, before any checkpoint is written."""
        if self._own_weights is not None:
            self._swap_models(pl_module)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Let go of the average once the network holds it."""
        self._average_model = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the average into `state_dict`."""
        if self._average_model is not None:
            super().on_save_checkpoint(trainer, pl_module, checkpoint)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take up weights and average again, to train on."""
        if trainer.state.fn == TrainerFn.FITTING:
            if self.averaged is not None:
                self.averaged.on_load_checkpoint(checkpoint)  # its structure
            super().on_load_checkpoint(trainer, pl_module, checkpoint)


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
