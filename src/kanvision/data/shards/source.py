"""Source of images in tar shards, each read at its offset."""

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

from .index import FileStamp, IndexedShard
from .tar import ShardContents

__all__ = ["MAX_OPEN_SHARDS", "ShardSource"]

MAX_OPEN_SHARDS: Final = 64
"""Largest number of shards that a process keeps open, for all sources together."""


class ShardSource(EncodedSource):
    """Source of images in uncompressed tar files.

    Reading an image is one read of exactly its bytes. Reads give their offset and move no shared position, so
    that threads may read concurrently, and a loader process may use the files that its parent has opened.

    Args:
        shards: Paths of the shards.
        stamps: Stamp of each shard when it was indexed.
        which: Index of the shard of each image, (N,).
        contents: Offset and class of each image.
        fail: Builds the error for an image that cannot be read from a list of problems.
        decoding: Options for decoding.
    """

    unit: ClassVar = "shard"

    def __init__(
        self,
        shards: Sequence[Path],
        stamps: Sequence[FileStamp],
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
    def from_shards(
        cls,
        shards: dict[Path, IndexedShard],
        fail: Callable[[list[str]], DataError],
        decoding: Decoding = DEFAULT,
    ) -> ShardSource:
        """Return a source of all images of indexed shards."""
        counts = [len(shard.contents.targets) for shard in shards.values()]
        return cls(
            list(shards),
            [shard.stamp for shard in shards.values()],
            np.repeat(np.arange(len(counts)), counts),
            ShardContents.concatenate([shard.contents for shard in shards.values()]),
            fail,
            decoding,
        )

    def name(self, index: int) -> str:
        """Return shard and key of an image."""
        return f"{self.shards[self.which[index]]}: {os.fsdecode(self.contents.keys[index])}"

    def read_bytes(self, index: int) -> bytes:
        """Return the bytes of an encoded image.

        Raises:
            OSError: If the shard is missing or was changed.
        """
        which = self.which[index]
        shard = _open(self.shards[which], self.stamps[which])
        return shard.read(int(self.contents.offsets[index]), int(self.contents.lengths[index]))

    def select(self, indices: NDArray[np.int64]) -> ShardSource:
        """Return a source of chosen images, in the order of the indices."""
        contents = self.contents.take(indices)
        which = self.which[indices]
        return ShardSource(self.shards, self.stamps, which, contents, self.fail, self.decoding)


class _OpenShard:
    """Open file that is closed when its last user is deleted."""

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
def _open(path: Path, stamp: FileStamp) -> _OpenShard:
    shard = _OpenShard(path)
    if FileStamp.from_status(os.fstat(shard.handle)) != stamp:
        raise OSError("the shard has changed since this run read its index; start the run again")
    return shard
