"""What a run's settings come to on the devices that are there."""

from __future__ import annotations

from dataclasses import dataclass

from .config import TrainConfig
from .optim import scaled_lr

__all__ = ["Effort"]


@dataclass(frozen=True)
class Effort:
    """What the settings come to on the devices that are there."""

    global_batch: int
    epochs: int
    lr: float
    kan_lr: float | None
    recipe_batch: int | None

    @classmethod
    def of(cls, cfg: TrainConfig, num_devices: int) -> Effort:
        """Global batch and learning rates of a run on so many devices, of all machines together."""
        batch = cfg.data.batch_size * num_devices * cfg.trainer.accumulate_grad_batches

        def scaled(lr: float) -> float:
            return scaled_lr(lr, cfg.optimizer.lr_scaling, batch, cfg.recipe.batch_size)

        kan_lr = cfg.optimizer.kan_lr
        return cls(
            global_batch=batch,
            epochs=cfg.trainer.max_epochs,
            lr=scaled(cfg.optimizer.lr),
            kan_lr=None if kan_lr is None else scaled(kan_lr),
            recipe_batch=cfg.recipe.batch_size,
        )

    def __str__(self) -> str:
        text = f"{self.epochs} epochs, effective batch {self.global_batch}, learning rate {self.lr:g}"
        if self.kan_lr is not None:
            text += f", of KAN parameters {self.kan_lr:g}"
        if self.recipe_batch not in (None, self.global_batch):
            text += f" (the recipe's batch is {self.recipe_batch})"
        return text
