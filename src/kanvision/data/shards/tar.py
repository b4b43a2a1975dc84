"""What one tar shard of WebDataset's layout holds, found without unpacking anything.

Members that share a key are one sample; the key is the path up to the first dot of the file name.
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
"""Endings of members that are images."""
_COMPRESSED: Final = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
}
_MOST_LABEL_BYTES: Final = 1 << 20
_MOST_TOLD: Final = 3
"""Problems told of one shard, so that a message has room for the others."""


class ShardContents(NamedTuple):
    """Samples of one shard in the order in which they lie in it.

    Attributes:
        keys: (N,) path and name up to the first dot, as bytes.
        offsets: (N,) first byte of the image.
        lengths: (N,) bytes of the image.
        targets: (N,) class.
    """

    keys: NDArray[np.bytes_]
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int64]
    targets: NDArray[np.int64]

    @classmethod
    def of(cls, rows: list[tuple[bytes, int, int, int]]) -> ShardContents:
        """From one row a sample."""
        keys, *numbers = zip(*rows, strict=True) if rows else ((), (), (), ())
        return cls(np.array(keys, "S"), *(np.array(column, np.int64) for column in numbers))

    @classmethod
    def joined(cls, parts: Sequence[ShardContents]) -> ShardContents:
        """Of several shards, one after another."""
        return cls(*(np.concatenate(column) for column in zip(cls.of([]), *parts, strict=True)))

    def take(self, indices: NDArray[np.int64]) -> ShardContents:
        """These samples, in this order."""
        picked = (self.offsets[indices], self.lengths[indices], self.targets[indices])
        return ShardContents(self.keys[indices], *picked)


@dataclass
class _Sample:
    key: str
    members: list[str] = field(default_factory=list)
    """Endings, as `.jpg`."""
    pictures: list[tuple[int, int]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def check(self) -> list[str]:
        """Everything that is wrong with a sample that has an image or a label."""
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

    A label is the text of `.cls`, a number, or the entry `label_key` of `.json`; where both are there, they
    must agree. Members that are neither an image nor a label are passed over.

    Args:
        path: An uncompressed tar.
        label_key: Entry of `.json` that is the label.

    Returns:
        The samples, and what is wrong: nothing if the shard is sound.
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
    if len(problems) > _MOST_TOLD:
        more = len(problems) - _MOST_TOLD
        problems[_MOST_TOLD:] = [f"{path}: and {more} more problem{'s' * (more > 1)}"]
    return ShardContents.of(rows), problems


def _samples(raw: BinaryIO, label_key: str) -> Iterator[_Sample]:
    """Groups of members with the same key.

    Raises:
        ValueError: If the file is compressed, cut off or damaged.
    """
    head = raw.read(6)
    for magic, kind in _COMPRESSED.items():
        if head.startswith(magic):
            raise ValueError(
                f"is compressed ({kind}), so that members cannot be read at their place; unpack it to .tar"
            )
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
            sample.problems.append(f"{ending} is a link or has holes, so that its bytes are not in one place")
        elif ending in PICTURES:
            sample.pictures.append((member.offset_data, member.size))
        elif ending in (".cls", ".json"):
            try:
                label = _label(raw, member, label_key if ending == ".json" else None)
                sample.labels += [] if label is None else [label]
            except ValueError as error:
                sample.problems.append(f"{ending} {error}")
    if sample is not None:
        yield sample


def _members(raw: BinaryIO) -> Iterator[tuple[tarfile.TarInfo, str, str]]:
    """Members with key and ending in lower case; hidden files and those without an ending are passed over."""
    try:
        with tarfile.open(fileobj=raw, mode="r:") as archive:
            for member in archive:
                archive.members = []  # type: ignore[attr-defined]  # it would keep them all
                folder, slash, name = member.name.rpartition("/")
                stem, dot, ending = name.partition(".")
                if stem and dot and not member.isdir():
                    yield member, f"{folder}{slash}{stem}", f".{ending.lower()}"
            end = archive.offset
    except tarfile.ReadError as error:
        raise ValueError(f"is cut off or no tar ({error}); copy or make it anew") from error
    # tarfile takes the end of the file, and a damaged header, for the end of the archive.
    raw.seek(end)
    block = raw.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:
        raise ValueError(f"is cut off at byte {end}: the two empty blocks at its end are missing")
    if block.strip(b"\0"):
        raise ValueError(f"is damaged at byte {end}: no header of a member; copy or make it anew")


def _label(raw: BinaryIO, member: tarfile.TarInfo, label_key: str | None) -> int | None:
    """The class in a member; None if it is json without the entry.

    Raises:
        ValueError: If it is no whole number.
    """
    if not member.isreg() or member.size > _MOST_LABEL_BYTES:
        raise ValueError("is no small file; legal: the number of a class")
    raw.seek(member.offset_data)
    text = raw.read(member.size)
    if label_key is None:
        try:
            return int(text)
        except ValueError:
            raise ValueError(f"holds {_short(text)}; legal: the number of a class") from None
    try:
        entries: Any = json.loads(text)
    except ValueError as error:
        raise ValueError(f"is no json ({error})") from None
    label = entries.get(label_key) if isinstance(entries, dict) else None
    if label is not None and (isinstance(label, bool) or not isinstance(label, int)):
        raise ValueError(f"has {label_key}={_short(label)}; legal: the number of a class")
    return label


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
