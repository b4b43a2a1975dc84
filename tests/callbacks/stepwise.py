"""The tiny problem with loaders of our own, which go on within an epoch; trains it and sees every step."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch.utils.data import DataLoader, default_collate

from kanvision.callbacks import (
    BestCheckpoint,
    EMAWeights,
    EpochState,
    LastCheckpoint,
    Preemption,
    RNGState,
    StepCheckpoint,
)
from kanvision.data.loading.image_dataset import loading_context
from kanvision.data.loading.loaders import get_upcoming_epoch, make_loader
from kanvision.data.loading.samplers import EvenBatchSampler, TrainBatchSampler
from tests.tasks.tiny_problem import NUM_TEST, Blobs, TinyData, tiny_task, tiny_trainer

NUM_TRAIN = 44  # 8 batches of 5, and a rest
NUM_STEPS = 24  # of three epochs


class WholeBatches(Blobs):
    """Blobs in batches, with noise from the seed of the batch."""

    def __getitems__(self, positions: Sequence[int]) -> Any:
        with loading_context(positions):
            return default_collate([self[position] for position in positions])


class StepData(TinyData):
    """The tiny problem through the loaders of the package."""

    def train_dataloader(self) -> DataLoader:
        data = WholeBatches(NUM_TRAIN, 1, augment=True)
        world_size, rank = self.trainer.world_size, self.trainer.global_rank
        batches = TrainBatchSampler(data, self.batch_size, seed=0, num_replicas=world_size, rank=rank)
        batches.set_epoch(get_upcoming_epoch(self.trainer))
        return make_loader(data, batches, num_workers=self.num_workers)

    def val_dataloader(self) -> DataLoader:
        data = WholeBatches(NUM_TEST, 2, augment=False)
        world_size, rank = self.trainer.world_size, self.trainer.global_rank
        batches = EvenBatchSampler(len(data), self.batch_size, num_replicas=world_size, rank=rank)
        return make_loader(data, batches, num_workers=self.num_workers)


class Trace(Callback):
    """What every step saw (images, rates, loss), and what every epoch logged."""

    def __init__(self) -> None:
        self.steps: dict[int, tuple[Any, ...]] = {}
        self.epochs: dict[int, dict[str, float]] = {}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
        step = trainer.fit_loop.epoch_loop.total_batch_idx
        images, mean = batch["index"].tolist(), batch["image"].sum().item()
        self.steps[step] = (images, mean, rates, outputs["loss"].item())

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = trainer.callback_metrics.items()
        self.epochs[trainer.current_epoch] = {name: float(value) for name, value in metrics}


class At(Callback):
    """Does something after a step (counted from 1) of the whole training, before checkpoints are written."""

    def __init__(self, step: int, action: Callable[[], Any]) -> None:
        self.step, self.action = step, action

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.fit_loop.epoch_loop.total_batch_idx + 1 == self.step:
            self.action()


class CrashError(Exception):
    """What no callback is prepared for."""


def environment() -> dict[str, str]:
    """For a process of its own, which no other one has started as its second rank."""
    ours = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_PORT", "MASTER_ADDR")
    clean = {key: value for key, value in os.environ.items() if key not in ours}
    return {**clean, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def crash() -> None:
    raise CrashError


def train(
    folder: Path,
    *more: Callback,
    resume: Path | None = None,
    seed: int = 0,
    ema: bool = True,
    num_workers: int = 0,
    batch_size: int = 5,
    every_n_steps: int | None = None,
    task: dict[str, Any] | None = None,
    model: Any = None,
    **options: Any,
) -> Trace:
    """Train three epochs of eight batches."""
    pl.seed_everything(seed, workers=True, verbose=False)
    trace = Trace()
    callbacks: list[Callback] = [
        RNGState(),
        EpochState(),
        BestCheckpoint(folder, "val/acc1"),
        LastCheckpoint(folder),
        StepCheckpoint(folder, None, every_n_steps),
        Preemption(),
        *more,
        trace,
        *([EMAWeights(0.9, warmup=True)] if ema else []),
    ]
    trainer = tiny_trainer(folder, callbacks=callbacks, **options)
    network = None if model is None else model()
    trainer.fit(
        tiny_task(network, **(task or {})), datamodule=StepData(num_workers, batch_size), ckpt_path=resume
    )
    return trace
