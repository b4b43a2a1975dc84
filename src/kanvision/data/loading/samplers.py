"""Batch samplers for training and evaluation on any number of processes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any

import torch
from timm.data.distributed_sampler import RepeatAugSampler
from torch.utils.data import Sampler, WeightedRandomSampler
from torch.utils.data.distributed import DistributedSampler

from kanvision.data.seeding import SeededBatch, derive_seed

__all__ = ["EvenBatchSampler", "TrainBatchSampler", "WeightedOrder"]


class TrainBatchSampler(Sampler[list[int]]):
    """Sampler of shuffled training batches of one process, which depend on (seed, epoch, rank) alone.

    Callers, such as Lightning, call `set_epoch` before each epoch. With more than one process, the first
    images repeat at the end, so that all processes take the same number of steps. An incomplete last batch is
    dropped, unless it is the only one.

    Args:
        dataset: Training images.
        batch_size: Number of images of a batch of this process.
        seed: Seed of the run.
        num_replicas: Number of processes.
        rank: Rank of this process.
        num_repeats: Number of copies of each image in one global batch, distributed over processes (repeated
            augmentation, Hoffer et al. 2020, arXiv 1901.09335, as in DeiT); an epoch keeps its length. 1:
            off.
        weights: Relative frequency of each image, (N,): N images are drawn with replacement (torch's
            WeightedRandomSampler); None: each once.
        fixed: Use the order of epoch 0 in all epochs (to overfit a few batches).
    """

    def __init__(
        self,
        dataset: Sized,
        batch_size: int,
        *,
        seed: int,
        num_replicas: int = 1,
        rank: int = 0,
        num_repeats: int = 1,
        weights: Sequence[float] | None = None,
        fixed: bool = False,
    ) -> None:
        self.order: Any
        if weights is not None:
            self.order = WeightedOrder(weights, num_replicas, rank)
        elif num_repeats > 1:
            repeated: Any = RepeatAugSampler  # timm's samplers have no types
            self.order = repeated(dataset, num_replicas=num_replicas, rank=rank, num_repeats=num_repeats)
        else:
            self.order = DistributedSampler(dataset, num_replicas=num_replicas, rank=rank)  # type: ignore[arg-type]
        self.batch_size = batch_size
        self.drop_last = len(self.order) >= batch_size
        self.seed = seed
        self.rank = rank
        self.fixed = fixed
        self.epoch = 0
        self.start = 0
        """First step of the next iteration; earlier steps are not loaded."""

    @property
    def sampler(self) -> TrainBatchSampler:
        """Sampler of which Lightning sets the epoch (`loader.batch_sampler.sampler`), which is this one."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        return self.batches(range(self.start, len(self)))

    def batches(self, steps: Iterable[int]) -> Iterator[SeededBatch]:
        """Yield the batches of given steps of the epoch, which do not depend on earlier calls."""
        epoch = self.epoch
        # Both samplers seed their permutation with their epoch, so that seed 1, epoch 0 would have the order
        # of seed 0, epoch 1; a derived seed avoids that. It is equal on all ranks, which share the order.
        self.order.set_epoch(derive_seed("order", self.seed, 0 if self.fixed else epoch))
        indices = list(self.order)
        for step in steps:
            start = step * self.batch_size
            seed = derive_seed("batch", self.seed, epoch, self.rank, step)
            yield SeededBatch(indices[start : start + self.batch_size], seed)

    def __len__(self) -> int:
        whole, rest = divmod(len(self.order), self.batch_size)
        return whole if self.drop_last else whole + (rest > 0)


class WeightedOrder(Sampler[int]):
    """Order of one process, of images that are drawn with replacement by their weights.

    All processes draw the same images from the seed of `set_epoch`, and each takes every W-th of them.

    Args:
        weights: Relative frequency of each image, (N,).
        num_replicas: Number of processes, W.
        rank: Rank of this process.
    """

    def __init__(self, weights: Sequence[float], num_replicas: int, rank: int) -> None:
        self.share = math.ceil(len(weights) / num_replicas)
        self.generator = torch.Generator()
        self.drawn = WeightedRandomSampler(weights, self.share * num_replicas, generator=self.generator)
        self.num_replicas, self.rank, self.seed = num_replicas, rank, 0

    def set_epoch(self, seed: int) -> None:
        """Set the seed of the next iteration."""
        self.seed = seed

    def __iter__(self) -> Iterator[int]:
        self.generator.manual_seed(self.seed)
        return iter(list(self.drawn)[self.rank :: self.num_replicas])

    def __len__(self) -> int:
        return self.share


class EvenBatchSampler(Sampler[list[int]]):
    """Sampler of evaluation batches, with each image once and equally many batches on each process.

    Rank r of W gets images r, r + W, r + 2 W, ... and divides them into batches that are equal to within one
    image, as many as the largest share needs. Collective calls thus stay in step, and no image counts twice.
    No batch exceeds `batch_size`, except if batch_size is 1 and shares differ: one batch of each larger share
    then holds two images.

    Raises:
        ValueError: If there are fewer images than processes.
    """

    def __init__(self, num_samples: int, batch_size: int, *, num_replicas: int = 1, rank: int = 0) -> None:
        if num_samples < num_replicas:
            raise ValueError(
                f"{num_samples} images cannot be shared by {num_replicas} processes without padding; "
                f"use at most {num_samples} devices"
            )
        smallest, largest = num_samples // num_replicas, math.ceil(num_samples / num_replicas)
        self.share = range(rank, num_samples, num_replicas)
        self.num_batches = min(math.ceil(largest / batch_size), smallest)

    def __iter__(self) -> Iterator[list[int]]:
        size, count = len(self.share), self.num_batches
        for batch in range(count):
            yield list(self.share[size * batch // count : size * (batch + 1) // count])

    def __len__(self) -> int:
        return self.num_batches
