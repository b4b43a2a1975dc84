"""What an analysis gets to look at: a trained network, its data, its run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from kanvision.app.building import datamodule_of
from kanvision.app.restoring import fitting_weights, run_folder
from kanvision.checkpoints import find_snapshots, load_checkpoint
from kanvision.config import EvalConfig, TrainConfig
from kanvision.data import ImageDataModule
from kanvision.tasks import Task

__all__ = ["Study", "batches_of", "not_augmented"]

Item = TypeVar("Item")


@dataclass(frozen=True)
class Study:
    """A checkpoint under examination. B batch, C channels, H W space."""

    cfg: EvalConfig
    """What the user wants; keys of analysis=<name> are in `cfg.analyse.<name>`."""
    path: Path
    """The checkpoint."""
    run: TrainConfig
    """Configuration of the run that wrote it."""
    task: Task
    """Network with the checkpoint's weights, in evaluation mode, without gradients, on `device`."""
    device: torch.device
    console: Console

    @cached_property
    def datamodule(self) -> ImageDataModule:
        """The data, which are read when they are first asked for."""
        return datamodule_of(self.run, self.task.class_names)

    def track(self, items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
        """The items, with a bar that shows how many are done."""
        is_quiet = not self.cfg.trainer.enable_progress_bar
        yield from track(items, what, total=total, console=self.console, transient=True, disable=is_quiet)

    def sample(self, number: int) -> list[int]:
        """Positions of random images of the split, in random order; all where there are no more."""
        count = len(self.datamodule.datasets[self.cfg.split])
        chosen = np.random.default_rng(self.cfg.analyse.seed).permutation(count)[:number]
        return [int(position) for position in chosen]

    def batches(self, positions: Sequence[int]) -> Iterator[dict[str, Tensor]]:
        """Images of the split with their labels, on the device, `data.batch_size` at a time.

        Batches hold "image" (B, C, H, W), and "target" (B,) or "mask" (B, H, W).
        """
        for batch in batches_of(self.datamodule, self.datamodule.datasets[self.cfg.split], positions):
            yield {key: value.to(self.device) for key, value in batch.items()}

    @cached_property
    def snapshots(self) -> dict[int, Path]:
        """Checkpoints of the run by the number of epochs behind them, in order; at least this one."""
        found = find_snapshots(run_folder(self.path) / "checkpoints")
        return found or find_snapshots(self.path)

    def weights(self, snapshot: Path) -> dict[str, Tensor]:
        """Weights of another checkpoint of the run, by the network's own names, on the CPU."""
        return fitting_weights(self.task, load_checkpoint(snapshot), snapshot)


def batches_of(
    datamodule: ImageDataModule, dataset: Any, positions: Iterable[int]
) -> Iterator[dict[str, Tensor]]:
    """Images at some places of a part of the data, `data.batch_size` at a time, on the CPU."""
    places, size = [int(position) for position in positions], datamodule.eval_batch_size
    for start in range(0, len(places), size):
        batch = dataset.__getitems__(places[start : start + size])
        yield {key: value for key, value in batch.items() if isinstance(value, Tensor)}


def not_augmented(datamodule: ImageDataModule, split: str) -> Any:
    """A part of the data as evaluation sees it."""
    dataset = datamodule.datasets[split]
    return datamodule.serve(dataset.source, dataset.indices, training=False)
