"""Index of the images of many shards, which is built once and stored in a small file.

The file is `kanvision_index.npz` beside the shards or, if their folder is read-only, in the cache folder of
the user. An entry is valid as long as size and modification time of its shard are the same.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch.utils.data import DataLoader, Dataset

from kanvision.data.cores import num_cores

from .tar import ShardContents, read_shard

__all__ = ["INDEX_FILE", "FileStamp", "IndexedShard", "index_shards"]

INDEX_FILE: Final = "kanvision_index.npz"
_FORMAT: Final = 1
_MIN_PARALLEL: Final = 8
"""Number of shards from which on several processes are faster."""


class FileStamp(NamedTuple):
    """Size and modification time of a file, by which a change is detected."""

    size: int
    changed: int
    """Modification time in nanoseconds."""

    @classmethod
    def from_status(cls, status: os.stat_result) -> FileStamp:
        """Return the stamp of the status of a file."""
        return cls(status.st_size, status.st_mtime_ns)


class IndexedShard(NamedTuple):
    """Contents of a shard, and its stamp when they were read."""

    stamp: FileStamp
    contents: ShardContents


def index_shards(
    root: Path, shards: Sequence[Path], label_key: str
) -> tuple[dict[Path, IndexedShard], list[str]]:
    """Return the contents of the shards below a folder, and update the index file.

    Args:
        root: Folder of the data set.
        shards: Tar files below it.
        label_key: Entry of .json members that holds the label.

    Returns:
        The valid shards, and the problems with the others.
    """
    stamps = {shard: FileStamp.from_status(shard.stat()) for shard in shards}
    known = {root / name: shard for name, shard in _load(root, label_key).items()}
    found = {
        shard: known[shard] for shard in shards if shard in known and known[shard].stamp == stamps[shard]
    }
    unknown = [shard for shard in shards if shard not in found]
    problems: list[str] = []
    for shard, (contents, wrong) in zip(unknown, _read_all(unknown, label_key), strict=True):
        problems += wrong
        if not wrong:
            found[shard] = IndexedShard(stamps[shard], contents)
    if any(shard in found for shard in unknown):
        still_there = {shard: kept for shard, kept in known.items() if shard not in stamps and shard.exists()}
        _save(root, label_key, still_there | found)
    return found, problems


class _Shards(Dataset[tuple[ShardContents, list[str]]]):
    def __init__(self, shards: Sequence[Path], label_key: str) -> None:
        self.shards = shards
        self.label_key = label_key

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, index: int) -> tuple[ShardContents, list[str]]:
        return read_shard(self.shards[index], self.label_key)


def _read_all(shards: Sequence[Path], label_key: str) -> Iterator[tuple[ShardContents, list[str]]]:
    """Yield the contents of shards in their order; many are read by several processes with a progress bar."""
    if len(shards) < _MIN_PARALLEL:
        yield from (read_shard(shard, label_key) for shard in shards)
        return
    # The loader starts processes as in training. It draws a random number, which would advance the global
    # generator of the model.
    loader: DataLoader[tuple[ShardContents, list[str]]] = DataLoader(
        _Shards(shards, label_key),
        batch_size=None,
        num_workers=min(num_cores(), 16),
        collate_fn=tuple,
        generator=torch.Generator(),
    )
    yield from track(loader, description="Indexing shards", total=len(shards), transient=True)


def _index_paths(root: Path) -> tuple[Path, Path]:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = hashlib.blake2b(os.fsencode(root.absolute()), digest_size=12).hexdigest()
    return root / INDEX_FILE, cache / "kanvision" / "shards" / f"{name}.npz"


def _load(root: Path, label_key: str) -> dict[str, IndexedShard]:
    """Return the entries by path below the root; empty without an index file of the same label key."""
    found: dict[str, IndexedShard] = {}
    for path in reversed(_index_paths(root)):
        if not path.is_file():
            continue
        try:
            with np.load(path, allow_pickle=False) as arrays:
                if int(arrays["format"]) == _FORMAT and str(arrays["label_key"]) == label_key:
                    found |= _entries({name: arrays[name] for name in arrays.files})
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
            warnings.warn(f"{path}: the index is damaged ({error}) and is built again", stacklevel=2)
    return found


def _entries(arrays: dict[str, NDArray[Any]]) -> dict[str, IndexedShard]:
    counts = arrays["counts"]
    columns = [np.split(arrays[name], np.cumsum(counts)[:-1]) for name in ShardContents._fields]
    if any(len(arrays[name]) != counts.sum() for name in ShardContents._fields):
        raise ValueError("its columns have different lengths")
    rows = zip(arrays["names"], arrays["sizes"], arrays["changed"], *columns, strict=True)
    return {
        os.fsdecode(name): IndexedShard(FileStamp(int(size), int(changed)), ShardContents(*contents))
        for name, size, changed, *contents in rows
    }


def _save(root: Path, label_key: str, shards: dict[Path, IndexedShard]) -> None:
    """Write the index file atomically to the first of its paths that can be written."""
    arrays = {
        "format": np.array(_FORMAT),
        "label_key": np.array(label_key),
        "names": np.array([os.fsencode(shard.relative_to(root)) for shard in shards], "S"),
        "sizes": np.array([kept.stamp.size for kept in shards.values()], np.int64),
        "changed": np.array([kept.stamp.changed for kept in shards.values()], np.int64),
        "counts": np.array([len(kept.contents.targets) for kept in shards.values()], np.int64),
    }
    arrays |= ShardContents.concatenate([kept.contents for kept in shards.values()])._asdict()
    for path in _index_paths(root):
        try:
            _write(path, arrays)
        except OSError as error:
            reason = error
        else:
            return
    warnings.warn(f"the index of the shards in {root} cannot be stored ({reason})", stacklevel=2)


def _write(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".npz")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
