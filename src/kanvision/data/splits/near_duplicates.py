"""Near duplicates by a perceptual hash, such as resized, recompressed or annotated copies of an image.

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

from kanvision.data.files.images import to_8_bit
from kanvision.data.files.pillow import open_picture, turn_upright
from kanvision.data.files.pixels import FileError

__all__ = ["group_duplicates", "perceptual_hash"]

SIDE: Final = 32
"""Side of the resized image."""
NUM_FREQUENCIES: Final = 16
"""Number of horizontal and of vertical frequencies; the hash has a bit for each pair of them but the mean."""
MAX_DISTANCE: Final = 64
"""Largest Hamming distance of near duplicates, a quarter of all bits.

On 120 images of BUSI, copies differ in up to 38 bits, other pairs in at least 96; half of 255 is chance."""

_ORDER = np.arange(SIDE)
_COSINES = np.cos(np.pi * (2 * _ORDER + 1) * np.arange(NUM_FREQUENCIES)[:, None] / (2 * SIDE))  # (16, 32)


def perceptual_hash(path: Path) -> NDArray[np.bool_]:
    """Return the perceptual hash of an image, (255,).

    The gray image is resized to 32 x 32; of its discrete cosine transform, the 16 x 16 lowest frequencies but
    the mean are compared with their median (the method known as pHash, with more frequencies).

    Raises:
        FileError: If the file cannot be read.
    """
    try:
        with open_picture(path) as picture:
            picture.load()
            small = to_8_bit(turn_upright(picture)).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    except (
        Exception
    ) as error:  # Pillow's plugins raise OSError, SyntaxError, struct.error, ValueError and more
        raise FileError(f"{path}: cannot be read ({error}); replace the file or delete it") from error
    spectrum = _COSINES @ np.asarray(small, dtype=np.float64) @ _COSINES.T
    frequencies = spectrum.ravel()[1:]
    bits: NDArray[np.bool_] = frequencies > np.median(frequencies)
    return bits


def _hash_or_nan(path: Path) -> NDArray[np.float32]:
    """Return the hash as numbers, which are NaN if the file cannot be read."""
    try:
        return perceptual_hash(path).astype(np.float32)
    except FileError:
        return np.full(NUM_FREQUENCIES**2 - 1, np.nan, np.float32)


def group_duplicates(paths: Sequence[Path], *, skip_bad_samples: bool = False) -> NDArray[np.int64]:
    """Return the group of near duplicates of each image, (N,), numbered by the index of its first member.

    Images are in one group if a chain of near duplicates connects them.

    Args:
        paths: Image files.
        skip_bad_samples: A file that cannot be read is a group of its own.

    Raises:
        FileError: If a file cannot be read.
    """
    with ThreadPoolExecutor() as pool:
        compute_hash = _hash_or_nan if skip_bad_samples else perceptual_hash
        hashes = np.array(list(pool.map(compute_hash, paths)))
    signs = hashes.astype(np.float32) * 2 - 1
    signs[np.isnan(signs[:, 0])] = 0  # at the distance of chance from every image
    groups = np.arange(len(paths))
    for index in range(1, len(paths)):
        # Two vectors of +-1 that differ in d of n places have the product n - 2 d.
        distances = (signs.shape[1] - signs[:index] @ signs[index]) / 2
        for near in np.unique(groups[:index][distances <= MAX_DISTANCE]):
            low, high = sorted((int(near), int(groups[index])))
            groups[groups == high] = low
    return groups
