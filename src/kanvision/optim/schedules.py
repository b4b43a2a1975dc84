"""Learning-rate schedules of timm, and one of our own.

Each parameter group holds one learning rate as `lr * lr_scale`. timm's schedules compute one rate for all
groups and multiply it by `lr_scale`, so layer decay and the own rate of the KAN parameters keep their ratios
during warm-up and down to the last step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch.optim import Optimizer

from kanvision.spec.training import INTERVALS, SCHEDULES, Interval, Schedule

__all__ = ["SCHEDULES", "Plateau", "build_scheduler", "count_reductions"]

THRESHOLD = 1e-4
"""Relative improvement over the best value that counts as better."""


def count_reductions(values: Iterable[float], patience: int, mode: str) -> int:
    """Return the number of reductions of a rate after a sequence of values, where a NaN is never better.

    The rate is reduced if the last `patience` + 1 values were not better (mode "min" or "max") than the best
    one before; then the count starts again. This is `ReduceLROnPlateau` of torch as a function of all values,
    which is its only state.
    """
    sign = 1 if mode == "max" else -1
    best, waited, count = -math.inf, 0, 0
    for value in values:
        if sign * value > best + THRESHOLD * abs(best) or (best == -math.inf and not math.isnan(value)):
            best, waited = sign * value, 0
        else:
            waited += 1
        if waited > patience:
            waited, count = 0, count + 1
    return count


class Plateau(Scheduler):
    """Multiplies the rate by a factor when a monitored value stops improving.

    Its state is the list `values`, to which the task adds one value an epoch; the schedule of timm with this
    name has a state that its checkpoints do not hold. `count_reductions` has `patience` and `mode`; the
    warm-up rises linearly from `warmup_lr`, and no rate is below `min_lr`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        factor: float,
        patience: int,
        mode: str,
        min_lr: float,
        warmup_epochs: float,
        warmup_lr: float,
    ) -> None:
        super().__init__(optimizer, "lr")
        self.factor, self.patience, self.mode, self.min_lr = factor, patience, mode, min_lr
        self.warmup_epochs, self.warmup_lr = warmup_epochs, warmup_lr
        self.values: list[float] = []
        """Monitored value of each epoch."""
        self.update_groups(self._get_lr(0))

    def _get_lr(self, t: int) -> list[float]:
        if t < self.warmup_epochs:
            share = t / self.warmup_epochs
            return [self.warmup_lr + (lr - self.warmup_lr) * share for lr in self.base_values]
        factor = self.factor ** count_reductions(self.values, self.patience, self.mode)
        return [max(lr * factor, min(lr, self.min_lr)) for lr in self.base_values]


def build_scheduler(
    optimizer: Optimizer,
    *,
    max_epochs: int,
    steps_per_epoch: int,
    name: Schedule = "cosine",
    warmup_epochs: float = 1.0,
    warmup_lr: float = 1e-5,
    min_lr: float = 0.0,
    decay_rate: float = 0.1,
    decay_epochs: float = 30.0,
    interval: Interval = "step",
    scale_min_lr: bool = True,
    patience: int = 5,
    mode: str = "min",
) -> Scheduler:
    """Build a schedule, whose `step(epoch)` or `step_update(step)` sets the learning rates.

    With t the finished epochs (fractions of them for interval=step), T = max_epochs and s the `lr_scale` of a
    group:

        warm-up, t < warmup_epochs: s * (warmup_lr + (lr - warmup_lr) * t / warmup_epochs)
        cosine:      s * (min_lr + (lr - min_lr) * (1 + cos(pi * t / T)) / 2)
        linear:      s * (min_lr + (lr - min_lr) * (1 - t / T))
        poly:        s * (min_lr + (lr - min_lr) * (1 - t / T) ** decay_rate)
        step:        s * lr * decay_rate ** floor(t / decay_epochs)
        exponential: s * lr * decay_rate ** floor(t)
        constant:    s * lr
        plateau:     s * max(lr * decay_rate ** d, min_lr), with d the result of `count_reductions`

    With scale_min_lr=False, a group of scale s follows the curve of the rate s * lr to the unscaled min_lr
    and from the unscaled warmup_lr; the groups then do not keep their ratios.

    The warm-up is part of the T epochs: after it, the curve continues at the current t, as in timm.

    Args:
        optimizer: Optimizer of `build_optimizer`.
        max_epochs: Epochs of the whole run, T.
        steps_per_epoch: Optimizer steps in an epoch, accumulated batches counted once.
        name: One of `SCHEDULES`.
        warmup_epochs: Epochs of linear warm-up.
        warmup_lr: Rate at the start of the warm-up.
        min_lr: Rate at the end; not used by step, exponential and constant.
        decay_rate: Factor of step, exponential and plateau, power of poly.
        decay_epochs: Epochs between two steps of the step schedule.
        interval: Interval of changes of the rate, "epoch" or "step".
        scale_min_lr: Multiply min_lr and warmup_lr by the scale of each group.
        patience: Epochs without improvement before a plateau reduces the rate.
        mode: "min" or "max", the direction of improvement of a plateau.

    Raises:
        ValueError: The name or the interval is unknown.
    """
    if name not in SCHEDULES:
        raise ValueError(f"scheduler.name={name!r} is unknown; legal: {', '.join(SCHEDULES)}")
    if interval not in INTERVALS:
        raise ValueError(f"scheduler.interval={interval!r} is unknown; legal: {', '.join(INTERVALS)}")
    if not scale_min_lr:
        for group in optimizer.param_groups:
            group["initial_lr"] *= group.get("lr_scale", 1.0)
            group["lr_scale"] = 1.0
    if name == "plateau":
        return Plateau(
            optimizer,
            factor=decay_rate,
            patience=patience,
            mode=mode,
            min_lr=min_lr,
            warmup_epochs=warmup_epochs,
            warmup_lr=warmup_lr,
        )
    # decay_rate of timm is also the power of poly; two schedules are special cases without a name
    special: dict[str, tuple[str, float, float]] = {
        "linear": ("poly", 1.0, decay_epochs),
        "exponential": ("step", decay_rate, 1.0),
    }
    timm_name, rate, epochs = special.get(name, (name, decay_rate, decay_epochs))
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched=timm_name,
        num_epochs=max_epochs,
        warmup_epochs=warmup_epochs,  # type: ignore[arg-type]  # fractions work
        warmup_lr=warmup_lr,
        min_lr=min_lr,
        decay_rate=rate,
        decay_epochs=epochs,
        step_on_epochs=interval == "epoch",
        updates_per_epoch=steps_per_epoch,
    )
    built: Scheduler = scheduler
    return built
