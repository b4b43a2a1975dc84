"""Learning rate range test before training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities.seed import isolate_rng

from kanvision.tasks import Task
from kanvision.visualization.charts import new_chart

from .csv_log import write_table

__all__ = ["LearningRateFinder", "find_steepest"]


class LearningRateFinder(Callback):
    """Measures the training loss at rising learning rates before training (Smith 2017, arXiv 1506.01186).

    It writes the curve as `lr_finder.png` and `lr_finder.csv`, and prints the rate of the steepest descent.
    Nothing else changes: the test has an optimizer of its own, weights and random numbers are restored, and
    training has the rate of the configuration. A resumed run measures nothing. Rates of parameter groups keep
    their ratios. Of several processes, the first one writes the curve of its own batches.

    Lightning's callback of this name needs a schedule of torch, which the tasks of kanvision do not have.

    Args:
        dirpath: Folder of picture and table.
        min_lr: Smallest rate.
        max_lr: Largest rate.
        num_steps: Number of rates, at equal distances of their logarithms; one step each.
        max_ratio: The test ends at a loss this many times as large as the smallest one; null: never.
        smoothing: Weight of the old values in the moving average of the loss.

    Raises:
        ValueError: If the rates do not rise, or are too few.
    """

    def __init__(
        self,
        dirpath: str | Path,
        min_lr: float = 1e-6,
        max_lr: float = 1.0,
        num_steps: int = 100,
        max_ratio: float | None = 4.0,
        smoothing: float = 0.9,
    ) -> None:
        if not 0 < min_lr < max_lr or num_steps < 3:
            given = f"min_lr={min_lr}, max_lr={max_lr}, num_steps={num_steps}"
            raise ValueError(f"{given}: rates must rise, in three steps or more")
        self.dirpath = Path(dirpath)
        self.rates = np.geomspace(min_lr, max_lr, num_steps).tolist()
        self.max_ratio = max_ratio
        self.smoothing = smoothing

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure and write the curve of a fresh run."""
        if trainer.ckpt_path is not None or getattr(trainer, "fast_dev_run", False):
            return
        assert isinstance(pl_module, Task)
        tensors = [*pl_module.parameters(), *pl_module.buffers()]
        before = [tensor.detach().clone() for tensor in tensors]
        with isolate_rng(), torch.enable_grad():
            losses = list(self._measure(trainer, pl_module))
        for tensor, value in zip(tensors, before, strict=True):
            tensor.data.copy_(value)
        if trainer.is_global_zero:
            self._write(losses)

    def _measure(self, trainer: pl.Trainer, task: Task) -> Iterator[float]:
        """Yield the averaged loss before the step at each rate."""
        settings: Any = task.configure_optimizers()
        optimizer = settings["optimizer"]
        loader = trainer.datamodule.train_dataloader()  # type: ignore[attr-defined]
        average, smallest = 0.0, float("inf")
        batches = chain.from_iterable(repeat(loader))
        for step, (rate, batch) in enumerate(zip(self.rates, batches, strict=False), 1):
            for group in optimizer.param_groups:
                group["lr"] = rate * group["lr_scale"]
            with trainer.precision_plugin.train_step_context():
                loss = task.total_loss(trainer.strategy.batch_to_device(batch))[0]
            average = self.smoothing * average + (1 - self.smoothing) * float(loss.detach())
            yield (smoothed := average / (1 - self.smoothing**step))
            smallest = min(smallest, smoothed)
            if not np.isfinite(smoothed) or (self.max_ratio and smoothed > self.max_ratio * smallest):
                break
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        optimizer.zero_grad()

    def _write(self, losses: Sequence[float]) -> None:
        rates = self.rates[: len(losses)]
        write_table(self.dirpath / "lr_finder.csv", ("lr", "loss"), zip(rates, losses, strict=True))
        steepest = find_steepest(rates, losses)
        figure, [[axes]] = new_chart(6, 4, labels=10, ticks=10, framed=True)
        axes.plot(rates, losses)
        if steepest is not None:
            axes.axvline(steepest, color="gray", linestyle="--", label=f"steepest: {steepest:.2g}")
            axes.legend()
        axes.set(xscale="log", xlabel="learning rate", ylabel="training loss, moving average")
        figure.savefig(self.dirpath / "lr_finder.png", dpi=120)
        found = (
            "the loss never falls" if steepest is None else f"steepest descent at optimizer.lr={steepest:.2g}"
        )
        print(f"Learning rate finder: {found}; curve: {self.dirpath / 'lr_finder.png'}")


def find_steepest(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """Return the rate at which the loss falls fastest with the logarithm of the rate, or None."""
    if len(losses) < 3:
        return None
    slopes = np.gradient(np.asarray(losses), np.log(rates))[1:-1]
    index = int(np.nanargmin(slopes))
    return float(rates[index + 1]) if slopes[index] < 0 else None
