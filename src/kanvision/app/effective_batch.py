"""Effective batch, learning rates and warm-up of a run on the available devices."""

from __future__ import annotations

from dataclasses import dataclass

from kanvision.config import ConfigError, TrainConfig, batch_problems, share_batch
from kanvision.optim import scaled_lr

__all__ = ["EffectiveBatch", "clamp_warmup", "split_global_batch"]

SCALED = {"linear": "{lr:g} x {batch} / {reference}", "sqrt": "{lr:g} x sqrt({batch} / {reference})"}


def split_global_batch(cfg: TrainConfig, num_processes: int) -> TrainConfig:
    """Return the configuration with `data.batch_size` and `trainer.accumulate_grad_batches` of one process.

    Raises:
        ConfigError: If the global batch cannot be split evenly.
    """
    share = share_batch(cfg, num_processes)
    if share is None:
        raise ConfigError(list(batch_problems(cfg, num_processes)))
    data = cfg.data.model_copy(update={"batch_size": share.images})
    trainer = cfg.trainer.model_copy(update={"accumulate_grad_batches": share.batches})
    return cfg.model_copy(update={"data": data, "trainer": trainer})


def clamp_warmup(cfg: TrainConfig) -> tuple[TrainConfig, str]:
    """Return the configuration with a warm-up shorter than the run, and a note if it had to be shortened.

    A warm-up that is too long is set to half of the run, rounded down where rates change by epoch.
    """
    requested, epochs = cfg.scheduler.warmup_epochs, cfg.trainer.max_epochs
    if requested < epochs:
        return cfg, ""
    warmup = epochs / 2 if cfg.scheduler.interval == "step" else float(epochs // 2)
    scheduler = cfg.scheduler.model_copy(update={"warmup_epochs": warmup})
    note = f"{warmup:g} of {epochs} epochs; scheduler.warmup_epochs={requested:g} is not shorter than the run"
    return cfg.model_copy(update={"scheduler": scheduler}), note


@dataclass(frozen=True)
class EffectiveBatch:
    """Effective batch and learning rates of a run on the available devices."""

    batch: int
    """Number of images in one batch of one process."""
    num_processes: int
    accumulated: int
    """Number of batches of one process in an optimizer step."""
    epochs: int
    lr: float
    kan_lr: float | None
    recipe_batch: int | None
    rule: str
    """Formula of the scaled learning rate; empty if rates are not scaled."""

    @classmethod
    def from_config(cls, cfg: TrainConfig, num_processes: int) -> EffectiveBatch:
        """Return batches and learning rates of a configuration from `split_global_batch`."""
        images, accumulated = cfg.data.batch_size, cfg.trainer.accumulate_grad_batches
        assert images is not None
        assert accumulated is not None
        batch = images * num_processes * accumulated
        rule, reference = cfg.optimizer.lr_scaling, cfg.recipe.batch_size

        def scaled(lr: float) -> float:
            return scaled_lr(lr, rule, batch, reference)

        lr, kan_lr = cfg.optimizer.lr, cfg.optimizer.kan_lr
        formula = SCALED.get(rule, "").format(lr=lr, batch=batch, reference=reference)
        return cls(
            batch=images,
            num_processes=num_processes,
            accumulated=accumulated,
            epochs=cfg.trainer.max_epochs,
            lr=scaled(lr),
            kan_lr=None if kan_lr is None else scaled(kan_lr),
            recipe_batch=reference,
            rule="" if batch == reference else formula,
        )

    @property
    def global_batch(self) -> int:
        """Number of images in an optimizer step."""
        return self.batch * self.num_processes * self.accumulated

    def count_batches(self, num_images: int) -> int:
        """Return the number of training batches of one process in the whole run."""
        return self.epochs * -(-num_images // (self.batch * self.num_processes))

    def __str__(self) -> str:
        text = f"{self.epochs} epoch{'s' * (self.epochs > 1)}, effective batch {self.global_batch}"
        if self.num_processes > 1 or self.accumulated > 1:
            text += f" = {self.batch} images x {self.num_processes} process{'es' * (self.num_processes > 1)}"
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
