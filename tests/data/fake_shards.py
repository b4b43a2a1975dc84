"""Tar shards in WebDataset's layout, sound and otherwise."""

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

Member = tuple[str, bytes]


def encoded(level: int, kind: str = "PNG", size: tuple[int, int] = (10, 8)) -> bytes:
    """A picture whose pixels tell `level`."""
    ramp = np.linspace(0, 60, size[0] * size[1] * 3).reshape(size[1], size[0], 3)
    buffer = io.BytesIO()
    Image.fromarray((ramp + level).astype(np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def sample(number: int, label: int) -> list[Member]:
    return [(f"{number:04d}.png", encoded(number)), (f"{number:04d}.cls", str(label).encode())]


def shard(path: Path, members: Iterable[Member]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def shards(root: Path, split: str, num: int, each: int = 4, num_classes: int = 2) -> list[Path]:
    """Shards `<split>-<number>.tar`; the class of an image is its number modulo the number of classes."""
    found = []
    for shard_index in range(num):
        numbers = range(shard_index * each, (shard_index + 1) * each)
        members = [member for number in numbers for member in sample(number, number % num_classes)]
        found.append(shard(root / f"{split}-{shard_index:03d}.tar", members))
    return found
