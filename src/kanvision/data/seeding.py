"""Random numbers of the input pipeline, separate from those of the model.

Every training batch carries its own seed, derived from (seed, epoch, rank, step). The process that loads the
batch, be it the main process or a worker, seeds the generators of Python, numpy and torch from it for that
batch only. A batch thus depends neither on the number of workers nor on earlier batches, and a resumed run
sees the same images.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["SeededBatch", "derive_seed", "random_state"]


def derive_seed(*parts: int | str) -> int:
    """Return a seed in [0, 2**63), equal on all platforms and unrelated for nearby parts."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class SeededBatch(list[int]):
    """Indices of one batch and the seed of its random transforms."""

    def __init__(self, indices: Iterable[int] = (), seed: int = 0) -> None:
        super().__init__(indices)
        self.seed = seed


@contextmanager
def random_state(seed: int) -> Iterator[None]:
    """Seed the CPU generators of Python, numpy and torch inside the block and restore them after it.

    torch.manual_seed would seed the accelerators too, which a loader process must not touch.
    """
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
