"""Loaders over datasets that hand out whole batches; shared by all tasks."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from .samplers import EvenBatchSampler, TrainBatchSampler
from .seeding import derive_seed

__all__ = ["make_loader"]

Batch = TypeVar("Batch")


def make_loader(
    dataset: Dataset[Any], batches: TrainBatchSampler | EvenBatchSampler, *, num_workers: int = 0
) -> DataLoader[Any]:
    """A loader whose batches are what the sampler says.

    Args:
        dataset: Gives a batch for a list of places (`__getitems__`).
        batches: Lists of places.
        num_workers: Loader processes; 0: load in this process.
    """
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=_as_it_is,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=num_workers > 0,
        # The loader draws a number that we do not use; without its own generator it would move the model's.
        generator=torch.Generator().manual_seed(derive_seed("loader")),
    )


def _as_it_is(batch: Batch) -> Batch:
    return batch
