"""What a run's settings come to on the devices that are there."""

from __future__ import annotations

from dataclasses import dataclass

from .config import ConfigError, TrainConfig, batch_problems, one_share
from .optim import scaled_lr

__all__ = ["Effort", "shared_out"]

SCALED = {"linear": "{lr:g} x {batch} / {reference}", "sqrt": "{lr:g} x sqrt({batch} / {reference})"}


def shared_out(cfg: TrainConfig, num_processes: int) -> TrainConfig:
    """The configuration with one process's share of `trainer.global_batch_size` as its `data.batch_size`.

    Raises:
        ConfigError: If it cannot be shared out equally.
    """
    if problems := list(batch_problems(cfg, num_processes)):
        raise ConfigError(problems)
    share = {"batch_size": one_share(cfg, num_processes)}
    return cfg.model_copy(update={"data": cfg.data.model_copy(update=share)})


@dataclass(frozen=True)
class Effort:
    """What the settings come to on the devices that are there."""

    batch: int
    """Images of one batch of one process."""
    num_processes: int
    accumulated: int
    """Batches of one process in an optimiser step."""
    epochs: int
    lr: float
    kan_lr: float | None
    recipe_batch: int | None
    rule: str
    """How the learning rates came about; empty where they are as given."""

    @classmethod
    def of(cls, cfg: TrainConfig, num_processes: int) -> Effort:
        """Batches and learning rates of a run on so many processes, of all machines together."""
        accumulated = cfg.trainer.accumulate_grad_batches
        batch = cfg.data.batch_size * num_processes * accumulated
        rule, reference = cfg.optimizer.lr_scaling, cfg.recipe.batch_size

        def scaled(lr: float) -> float:
            return scaled_lr(lr, rule, batch, reference)

        lr, kan_lr = cfg.optimizer.lr, cfg.optimizer.kan_lr
        words = SCALED.get(rule, "").format(lr=lr, batch=batch, reference=reference)
        return cls(
            batch=cfg.data.batch_size,
            num_processes=num_processes,
            accumulated=accumulated,
            epochs=cfg.trainer.max_epochs,
            lr=scaled(lr),
            kan_lr=None if kan_lr is None else scaled(kan_lr),
            recipe_batch=reference,
            rule="" if batch == reference else words,
        )

    @property
    def global_batch(self) -> int:
        """Images of an optimiser step."""
        return self.batch * self.num_processes * self.accumulated

    def __str__(self) -> str:
        text = f"{self.epochs} epochs, effective batch {self.global_batch}"
        if self.num_processes > 1 or self.accumulated > 1:
            text += f" = {self.batch} images x {self.num_processes} processes"
        if self.accumulated > 1:
            text += f" x {self.accumulated} batches a step"
        text += f", learning rate {self.lr:g}"
        if self.rule:
            text += f" = {self.rule}"
        if self.kan_lr is not None:
            text += f", of KAN parameters {self.kan_lr:g}"
        if self.recipe_batch not in (None, self.global_batch):
            text += f" (the recipe's batch is {self.recipe_batch})"
        return text
