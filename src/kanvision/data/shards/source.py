"""Pictures read at their place in tar shards."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from kanvision.data.errors import DataError
from kanvision.data.files.images import DEFAULT, Decoding, EncodedSource

from .index import IndexedShard, Stamp
from .tar import ShardContents

__all__ = ["MAX_OPEN_SHARDS", "ShardSource"]

MAX_OPEN_SHARDS: Final = 64
"""Shards that a process keeps open, whatever number of sources it has."""


class ShardSource(EncodedSource):
    """Images in uncompressed tar files.

    An image costs one read of exactly its bytes. Reads name their place in the file and move no shared
    position, so that threads may read at once and a loader process may go on with the files that its parent
    has opened.

    Args:
        shards: Paths.
        stamps: What each shard was like when it was indexed.
        which: (N,) shard of each image.
        contents: Place and class of each image.
        fail: Makes the error for an image that cannot be read, from a list of problems.
        decoding: Options of decoding.
    """

    unit: ClassVar = "shard"

    def __init__(
        self,
        shards: Sequence[Path],
        stamps: Sequence[Stamp],
        which: NDArray[np.int64],
        contents: ShardContents,
        fail: Callable[[list[str]], DataError],
        decoding: Decoding = DEFAULT,
    ) -> None:
        self.shards = tuple(shards)
        self.stamps = tuple(stamps)
        self.which = which
        self.contents = contents
        self.targets = contents.targets
        self.fail = fail
        self.decoding = decoding

    @classmethod
    def of(
        cls,
        shards: dict[Path, IndexedShard],
        fail: Callable[[list[str]], DataError],
        decoding: Decoding = DEFAULT,
    ) -> ShardSource:
        """All images of some shards."""
        counts = [len(shard.contents.targets) for shard in shards.values()]
        return cls(
            list(shards),
            [shard.stamp for shard in shards.values()],
            np.repeat(np.arange(len(counts)), counts),
            ShardContents.joined([shard.contents for shard in shards.values()]),
            fail,
            decoding,
        )

    def name(self, index: int) -> str:
        """Shard and key."""
        return f"{self.shards[self.which[index]]}: {os.fsdecode(self.contents.keys[index])}"

    def stored(self, index: int) -> bytes:
        """The bytes of the image.

        Raises:
            OSError: If the shard is gone or was changed.
        """
        which = self.which[index]
        shard = _open(self.shards[which], self.stamps[which])
        return shard.read(int(self.contents.offsets[index]), int(self.contents.lengths[index]))

    def select(self, indices: NDArray[np.int64]) -> ShardSource:
        """The same shards, fewer images."""
        contents = self.contents.take(indices)
        which = self.which[indices]
        return ShardSource(self.shards, self.stamps, which, contents, self.fail, self.decoding)


class _OpenShard:
    """A file that is closed when nobody uses it any more."""

    def __init__(self, path: Path) -> None:
        self.handle = os.open(path, os.O_RDONLY)

    def read(self, offset: int, length: int) -> bytes:
        found = os.pread(self.handle, length, offset)
        if len(found) < length:
            raise OSError(f"ends within the image, at byte {offset + len(found)}")
        return found

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            os.close(self.handle)


@lru_cache(maxsize=MAX_OPEN_SHARDS)
def _open(path: Path, stamp: Stamp) -> _OpenShard:
    shard = _OpenShard(path)
    if Stamp.of(os.fstat(shard.handle)) != stamp:
        raise OSError("the shard has changed since this run has read its index; start again")
    return shard
