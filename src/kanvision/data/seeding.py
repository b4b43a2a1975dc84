"""Random numbers of the input pipeline, separate from those of the model.

Every training batch carries its own seed, made from (seed, epoch, rank, place in the epoch). Whoever loads
the batch, the main process or any worker, sets Python's, numpy's and torch's generators from it for that
batch only. So a batch does not depend on the number of workers or on what was loaded before, and a resumed
run sees the very same images.
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
    """A seed in [0, 2**63) from several parts: the same on all platforms, unrelated for nearby parts."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class SeededBatch(list[int]):
    """Indices of one batch and the seed of its random transforms."""

    def __init__(self, indices: Iterable[int] = (), seed: int = 0) -> None:
        super().__init__(indices)
        self.seed = seed


@contextmanager
def random_state(seed: int) -> Iterator[None]:
    """Seed Python's, numpy's and torch's CPU generators inside the block and put them back after it.

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
