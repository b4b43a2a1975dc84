"""Where the images of many shards lie: found once, kept in a small file.

The file is `kanvision_index.npz` beside the shards or, where they are read-only, in the user's cache folder.
An entry of it holds as long as size and time of change of its shard are the same.
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

__all__ = ["INDEX_FILE", "IndexedShard", "Stamp", "index_shards"]

INDEX_FILE: Final = "kanvision_index.npz"
_FORMAT: Final = 1
_MANY: Final = 8
"""Shards from which on it is worth to start processes."""


class Stamp(NamedTuple):
    """What tells that a file is still the same."""

    size: int
    changed: int
    """Time of change in nanoseconds."""

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """Of a file's status."""
        return cls(status.st_size, status.st_mtime_ns)


class IndexedShard(NamedTuple):
    """A shard and what it holds."""

    stamp: Stamp
    contents: ShardContents


def index_shards(
    root: Path, shards: Sequence[Path], label_key: str
) -> tuple[dict[Path, IndexedShard], list[str]]:
    """Contents of the shards below a folder, from the file or found anew; the file is brought up to date.

    Args:
        root: Folder of the data set.
        shards: Tar files below it.
        label_key: Entry of .json members that is the label.

    Returns:
        The sound shards, and what is wrong with the others.
    """
    stamps = {shard: Stamp.of(shard.stat()) for shard in shards}
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
    """In their order; many of them by several processes, with a progress bar."""
    if len(shards) < _MANY:
        yield from (read_shard(shard, label_key) for shard in shards)
        return
    # torch's loader starts processes as it will for training; without its own generator it would move the
    # model's.
    loader: DataLoader[tuple[ShardContents, list[str]]] = DataLoader(
        _Shards(shards, label_key),
        batch_size=None,
        num_workers=min(num_cores(), 16),
        collate_fn=_as_it_is,
        generator=torch.Generator(),
    )
    yield from track(loader, description="Indexing shards", total=len(shards), transient=True)


def _as_it_is(found: Any) -> Any:
    return found


def _list_index_files(root: Path) -> tuple[Path, Path]:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = hashlib.blake2b(os.fsencode(root.absolute()), digest_size=12).hexdigest()
    return root / INDEX_FILE, cache / "kanvision" / "shards" / f"{name}.npz"


def _load(root: Path, label_key: str) -> dict[str, IndexedShard]:
    """Entries by path below the root; none where there is no file, or one of another label."""
    found: dict[str, IndexedShard] = {}
    for path in reversed(_list_index_files(root)):
        if not path.is_file():
            continue
        try:
            with np.load(path, allow_pickle=False) as arrays:
                if int(arrays["format"]) == _FORMAT and str(arrays["label_key"]) == label_key:
                    found |= _entries({name: arrays[name] for name in arrays.files})
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
            warnings.warn(f"{path}: index is damaged ({error}) and is made anew", stacklevel=2)
    return found


def _entries(arrays: dict[str, NDArray[Any]]) -> dict[str, IndexedShard]:
    counts = arrays["counts"]
    columns = [np.split(arrays[name], np.cumsum(counts)[:-1]) for name in ShardContents._fields]
    if any(len(arrays[name]) != counts.sum() for name in ShardContents._fields):
        raise ValueError("its columns have different lengths")
    rows = zip(arrays["names"], arrays["sizes"], arrays["changed"], *columns, strict=True)
    return {
        os.fsdecode(name): IndexedShard(Stamp(int(size), int(changed)), ShardContents(*contents))
        for name, size, changed, *contents in rows
    }


def _save(root: Path, label_key: str, shards: dict[Path, IndexedShard]) -> None:
    """Write the file at once or not at all, at the first place that can be written."""
    arrays = {
        "format": np.array(_FORMAT),
        "label_key": np.array(label_key),
        "names": np.array([os.fsencode(shard.relative_to(root)) for shard in shards], "S"),
        "sizes": np.array([kept.stamp.size for kept in shards.values()], np.int64),
        "changed": np.array([kept.stamp.changed for kept in shards.values()], np.int64),
        "counts": np.array([len(kept.contents.targets) for kept in shards.values()], np.int64),
    }
    arrays |= ShardContents.joined([kept.contents for kept in shards.values()])._asdict()
    for path in _list_index_files(root):
        try:
            _write(path, arrays)
        except OSError as error:
            reason = error
        else:
            return
    warnings.warn(f"the index of the shards in {root} cannot be kept ({reason})", stacklevel=2)


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
