"""Contents of one tar shard in WebDataset format, found without unpacking it.

Members with the same key are one sample; the key is the path up to the first dot of the file name.
N samples.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["PICTURES", "ShardContents", "read_shard"]

PICTURES: Final = (".jpg", ".jpeg", ".png", ".webp")
"""Suffixes of members that are images."""
_COMPRESSED: Final = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
}
_MAX_LABEL_BYTES: Final = 1 << 20
_MAX_PROBLEMS: Final = 3
"""Number of problems of one shard in a message, which has to list other shards too."""


class ShardContents(NamedTuple):
    """Samples of one shard in their order.

    Attributes:
        keys: Path and name up to the first dot, as bytes, (N,).
        offsets: Offset of the image in bytes, (N,).
        lengths: Number of bytes of the image, (N,).
        targets: Class of the image, (N,).
    """

    keys: NDArray[np.bytes_]
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int64]
    targets: NDArray[np.int64]

    @classmethod
    def from_rows(cls, rows: list[tuple[bytes, int, int, int]]) -> ShardContents:
        """Return the contents of rows (key, offset, length, target)."""
        keys, *numbers = zip(*rows, strict=True) if rows else ((), (), (), ())
        return cls(np.array(keys, "S"), *(np.array(column, np.int64) for column in numbers))

    @classmethod
    def concatenate(cls, parts: Sequence[ShardContents]) -> ShardContents:
        """Return the contents of several shards as one."""
        return cls(*(np.concatenate(column) for column in zip(cls.from_rows([]), *parts, strict=True)))

    def take(self, indices: NDArray[np.int64]) -> ShardContents:
        """Return chosen samples, in the order of the indices."""
        picked = (self.offsets[indices], self.lengths[indices], self.targets[indices])
        return ShardContents(self.keys[indices], *picked)


@dataclass
class _Sample:
    key: str
    members: list[str] = field(default_factory=list)
    """Suffixes of the members, such as `.jpg`."""
    pictures: list[tuple[int, int]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def check(self) -> list[str]:
        """Return the problems of a sample that has an image or a label."""
        if not self.pictures and not self.labels:
            return self.problems
        if twice := [ending for ending in self.members if self.members.count(ending) > 1]:
            self.problems.append(f"has {twice[0]} twice; each key must be that of one sample")
        elif len(self.pictures) > 1:
            self.problems.append(f"has {len(self.pictures)} images ({', '.join(self.members)}); legal: one")
        elif not self.pictures:
            legal = ", ".join(PICTURES)
            self.problems.append(f"has a label but no image ({', '.join(self.members)}); legal: {legal}")
        if self.pictures and not self.labels and not self.problems:
            self.problems.append("has an image but no label; add a member .cls with the number of its class")
        if len(set(self.labels)) > 1:
            self.problems.append(f"has labels that differ ({' and '.join(map(str, self.labels))})")
        return self.problems


def read_shard(path: Path, label_key: str) -> tuple[ShardContents, list[str]]:
    """Find the images of a shard and read their labels.

    A label is the number in `.cls`, or the entry `label_key` of `.json`; both must agree. Members that are
    neither an image nor a label are ignored.

    Args:
        path: Uncompressed tar file.
        label_key: Entry of `.json` that holds the label.

    Returns:
        The samples and the problems, of which a valid shard has none.
    """
    rows: list[tuple[bytes, int, int, int]] = []
    problems: list[str] = []
    seen: set[str] = set()
    try:
        with path.open("rb") as raw:
            for sample in _samples(raw, label_key):
                found = sample.check()
                if sample.key in seen:
                    found.append(
                        "appears again after other samples; the members of a sample must follow each other, "
                        "and no key may be that of two (tar --sort=name)"
                    )
                seen.add(sample.key)
                problems += (f"{path}: {sample.key}: {problem}" for problem in found)
                if sample.pictures and not found:
                    rows.append((os.fsencode(sample.key), *sample.pictures[0], sample.labels[0]))
    except (tarfile.TarError, OSError, ValueError) as error:
        problems.append(f"{path}: {error}")
    if not rows and not problems:
        problems.append(f"{path}: holds no image; legal: members named <key>.jpg and <key>.cls")
    if len(problems) > _MAX_PROBLEMS:
        more = len(problems) - _MAX_PROBLEMS
        problems[_MAX_PROBLEMS:] = [f"{path}: and {more} more problem{'s' * (more > 1)}"]
    return ShardContents.from_rows(rows), problems


def _samples(raw: BinaryIO, label_key: str) -> Iterator[_Sample]:
    """Yield the samples, which are groups of members with the same key.

    Raises:
        ValueError: If the file is compressed, truncated or damaged.
    """
    head = raw.read(6)
    for magic, kind in _COMPRESSED.items():
        if head.startswith(magic):
            raise ValueError(f"is compressed ({kind}), so that members have no offset; decompress it to .tar")
    raw.seek(0)
    sample: _Sample | None = None
    for member, key, ending in _members(raw):
        if sample is None or sample.key != key:
            if sample is not None:
                yield sample
            sample = _Sample(key)
        sample.members.append(ending)
        if ending in PICTURES and not (member.isreg() and not member.issparse()):
            sample.pictures.append((0, 0))
            sample.problems.append(
                f"{ending} is a link or a sparse file, so that its bytes are not contiguous"
            )
        elif ending in PICTURES:
            sample.pictures.append((member.offset_data, member.size))
        elif ending in (".cls", ".json"):
            try:
                label = _read_label(raw, member, label_key if ending == ".json" else None)
                sample.labels += [] if label is None else [label]
            except ValueError as error:
                sample.problems.append(f"{ending} {error}")
    if sample is not None:
        yield sample


def _members(raw: BinaryIO) -> Iterator[tuple[tarfile.TarInfo, str, str]]:
    """Yield members with key and suffix in lower case, without hidden files and files without a suffix."""
    try:
        with tarfile.open(fileobj=raw, mode="r:") as archive:
            for member in archive:
                archive.members = []  # type: ignore[attr-defined]  # which would keep all members
                folder, slash, name = member.name.rpartition("/")
                stem, dot, ending = name.partition(".")
                if stem and dot and not member.isdir():
                    yield member, f"{folder}{slash}{stem}", f".{ending.lower()}"
            end = archive.offset
    except tarfile.ReadError as error:
        raise ValueError(f"is truncated or not a tar file ({error}); copy or create it again") from error
    # For tarfile, the end of the file and a damaged header both mean the end of the archive.
    raw.seek(end)
    block = raw.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:
        raise ValueError(f"is truncated at byte {end}: the two empty blocks at its end are missing")
    if block.strip(b"\0"):
        raise ValueError(f"is damaged at byte {end}: no header of a member; copy or create it again")


def _read_label(raw: BinaryIO, member: tarfile.TarInfo, label_key: str | None) -> int | None:
    """Return the class in a member; None for .json without the entry.

    Raises:
        ValueError: If the label is not a whole number.
    """
    if not member.isreg() or member.size > _MAX_LABEL_BYTES:
        raise ValueError("is not a small file; legal: the number of a class")
    raw.seek(member.offset_data)
    text = raw.read(member.size)
    if label_key is None:
        try:
            return int(text)
        except ValueError:
            raise ValueError(f"holds {_shorten(text)}; legal: the number of a class") from None
    try:
        entries: Any = json.loads(text)
    except ValueError as error:
        raise ValueError(f"is not valid JSON ({error})") from None
    label = entries.get(label_key) if isinstance(entries, dict) else None
    if label is not None and (isinstance(label, bool) or not isinstance(label, int)):
        raise ValueError(f"has {label_key}={_shorten(label)}; legal: the number of a class")
    return label


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
