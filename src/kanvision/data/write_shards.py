"""Converter of a classification data set to tar shards in WebDataset format.

python -m kanvision.data.write_shards imagenet data/imagenet data/imagenet_shards --size 1250

writes `<split>-<number>-of-<total>.tar` for each split, uncompressed, and classes.txt. Each image is `<index
in its split>.jpg` (or .png, .webp: the bytes of such files are copied, other images become PNG without loss)
followed by `.cls`. Equal data, seed and versions give equal bytes. Training images are shuffled, so that
shards read one after another mix the classes; validation and test images keep their order.
"""

from __future__ import annotations

import argparse
import io
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from .errors import DataError
from .files.pillow import open_picture, pixel_limit
from .readers import READERS, EncodedSource, ImageSource, Splits
from .seeding import derive_seed

__all__ = ["write_shards"]

CLASSES: Final = "classes.txt"
_COPIED: Final = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp"}
_IN_PNG: Final = ("1", "L", "LA", "P", "RGB", "RGBA")


def write_shards(splits: Splits, output: Path, *, size: int = 1000, seed: int = 0) -> list[Path]:
    """Write a data set as shards.

    Args:
        splits: Splits of the data set.
        output: Folder of the shards, new or empty.
        size: Largest number of images of a shard; the shards of a split differ by one image at most.
        seed: Seed of the order of the training images.

    Returns:
        Paths of the shards.

    Raises:
        ValueError: If the folder is not empty.
        DataError: If an image cannot be read.
    """
    if output.is_dir() and any(output.iterdir()):
        raise ValueError(f"{output}: is not empty; choose a new folder, or delete its contents")
    output.mkdir(parents=True, exist_ok=True)
    (output / CLASSES).write_text("".join(f"{name}\n" for name in splits.class_names), "utf-8")
    plan = []
    for split, source in (("train", splits.train), ("val", splits.val), ("test", splits.test)):
        if source is not None:
            order = np.arange(len(source))
            if split == "train":
                np.random.default_rng(derive_seed("shards", seed)).shuffle(order)
            parts = np.array_split(order, max(1, -(-len(source) // size)))
            names = (f"{split}-{number:05d}-of-{len(parts):05d}.tar" for number in range(len(parts)))
            plan += [(output / name, source, part) for name, part in zip(names, parts, strict=True)]
    for path, source, part in track(plan, description="Writing shards", transient=True):
        _write(path, source, part)
    return [path for path, _, _ in plan]


def _write(path: Path, source: ImageSource, indices: NDArray[np.int64]) -> None:
    """Write a shard to a temporary file and rename it when it is complete."""
    unfinished = path.with_suffix(".unfinished")
    with tarfile.open(unfinished, "w", format=tarfile.USTAR_FORMAT) as archive:
        for index in indices:
            ending, content = _encoded(source, int(index))
            label = str(source.targets[index]).encode()
            for name, data in ((f"{index:08d}{ending}", content), (f"{index:08d}.cls", label)):
                member = tarfile.TarInfo(name)  # without time and owner, so that equal data give equal bytes
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    os.replace(unfinished, path)


def _encoded(source: ImageSource, index: int) -> tuple[str, bytes]:
    """Return the suffix and the bytes of an encoded image."""
    picture = source.image(index)
    if isinstance(source, EncodedSource):
        content = source.read_bytes(index)
        # Suffixes are unreliable: ImageNet has a PNG called .JPEG.
        with pixel_limit(source.decoding.max_pixels), open_picture(io.BytesIO(content)) as stored:
            if ending := _COPIED.get(stored.format or ""):
                return ending, content
    buffer = io.BytesIO()
    (picture if picture.mode in _IN_PNG else picture.convert("RGB")).save(buffer, "PNG")
    return ".png", buffer.getvalue()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m kanvision.data.write_shards",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=sorted(READERS), help="data set, as in data=<name>")
    parser.add_argument(
        "root", help="folder of the data set, as in data.root=<root>; - for data that ship with a package"
    )
    parser.add_argument("output", type=Path, help="folder of the shards, new or empty")
    parser.add_argument(
        "--size", type=_positive, default=1000, help="largest number of images of a shard (%(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the order of training images (%(default)s)"
    )
    given = parser.parse_args(arguments)
    try:
        splits = READERS[given.name](None if given.root == "-" else given.root).read()
        written = write_shards(splits, given.output, size=given.size, seed=given.seed)
    except (DataError, ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")
    total = sum(path.stat().st_size for path in written)
    print(f"{len(written)} shards, {total / 2**20:.1f} MiB in {given.output}")


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text}; legal: 1 or more")
    return number


if __name__ == "__main__":
    main()
