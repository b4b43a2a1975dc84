"""Pictures that show the same, by a perceptual hash: resized, recompressed or annotated copies included.

N images, W words of 64 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kanvision.data.files.images import eight_bit
from kanvision.data.files.pillow import open_picture, turn_upright
from kanvision.data.files.pixels import FileError

__all__ = ["duplicate_groups", "perceptual_hash"]

SIDE: Final = 32
"""The picture is brought to this size."""
NUM_FREQUENCIES: Final = 16
"""The hash holds one bit for each of this many horizontal times vertical frequencies, but the mean."""
MAX_DISTANCE: Final = 64
"""Most differing bits of near duplicates, a quarter of all.

On 120 images of BUSI, copies lie up to 38 bits apart and other pairs from 96; half of 255 is chance."""

_ORDER = np.arange(SIDE)
_COSINES = np.cos(np.pi * (2 * _ORDER + 1) * np.arange(NUM_FREQUENCIES)[:, None] / (2 * SIDE))  # (16, 32)


def perceptual_hash(path: Path) -> NDArray[np.bool_]:
    """Which low frequencies of the gray picture are above their median, (255,).

    The picture is brought to 32 x 32; of its discrete cosine transform, the 16 x 16 lowest frequencies but
    the mean are compared with their median (the method known as pHash, with more frequencies).

    Raises:
        FileError: If the file cannot be read.
    """
    try:
        with open_picture(path) as picture:
            picture.load()
            small = eight_bit(turn_upright(picture)).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    except (
        Exception
    ) as error:  # Pillow's plugins raise OSError, SyntaxError, struct.error, ValueError and more
        raise FileError(f"{path}: cannot be read ({error}); replace the file or delete it") from error
    spectrum = _COSINES @ np.asarray(small, dtype=np.float64) @ _COSINES.T
    frequencies = spectrum.ravel()[1:]
    bits: NDArray[np.bool_] = frequencies > np.median(frequencies)
    return bits


def _hash_if_any(path: Path) -> NDArray[np.float32]:
    """The hash as numbers; NaN where the file cannot be read."""
    try:
        return perceptual_hash(path).astype(np.float32)
    except FileError:
        return np.full(NUM_FREQUENCIES**2 - 1, np.nan, np.float32)


def duplicate_groups(paths: Sequence[Path], *, skip_faults: bool = False) -> NDArray[np.int64]:
    """Number of the group of near duplicates that each picture is in, (N,): the place of its first member.

    Pictures are in one group if a chain of near duplicates connects them.

    Args:
        paths: The pictures.
        skip_faults: A file that cannot be read is a group of its own.

    Raises:
        FileError: If a file cannot be read.
    """
    with ThreadPoolExecutor() as pool:
        hash_of = _hash_if_any if skip_faults else perceptual_hash
        hashes = np.array(list(pool.map(hash_of, paths)))
    signs = hashes.astype(np.float32) * 2 - 1
    signs[np.isnan(signs[:, 0])] = 0  # half of all bits differ from any picture's
    groups = np.arange(len(paths))
    for index in range(1, len(paths)):
        # Two vectors of +-1 that differ in d of n places have the product n - 2 d.
        distances = (signs.shape[1] - signs[:index] @ signs[index]) / 2
        for near in np.unique(groups[:index][distances <= MAX_DISTANCE]):
            low, high = sorted((int(near), int(groups[index])))
            groups[groups == high] = low
    return groups
