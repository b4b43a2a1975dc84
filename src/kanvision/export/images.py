"""Images that a program hands over: files, images of Pillow, arrays.

C channels, H W space.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kanvision.data.errors import DataError
from kanvision.data.files.images import Decoding, FileSource, to_8_bit
from kanvision.data.files.pillow import MAX_PIXELS, turn_upright
from kanvision.data.files.pixels import FileError, picture_channels, scale_to_unit_range

__all__ = ["AnyImage", "read_array", "read_picture", "split_images"]

AnyImage: TypeAlias = str | Path | Image.Image | NDArray[Any]
"""File, image of Pillow, or array (H, W), (H, W, C) or (C, H, W) of bytes, 16-bit integers, or 0 to 1."""
IN_MEMORY = Path("<image in memory>")
"""Stands for the file in messages."""


def split_images(images: AnyImage | Sequence[AnyImage]) -> tuple[list[AnyImage], bool]:
    """Return a list of images, and True if it was one image alone."""
    if isinstance(images, str | Path | Image.Image | np.ndarray):
        return [images], True
    return list(images), False


def read_picture(image: AnyImage) -> Image.Image:
    """Return an image of Pillow with 8 bits a channel, upright.

    Raises:
        DataError: If the file cannot be read, or the array is no gray or color image.
    """
    if isinstance(image, Image.Image):
        return to_8_bit(turn_upright(image))
    if isinstance(image, str | Path):
        decoding = Decoding(MAX_PIXELS, limit_key="PIL.Image.MAX_IMAGE_PIXELS")
        source = FileSource([str(image)], np.zeros(1, np.int64), lambda found: DataError(found[0]), decoding)
        return source.image(0)
    pixels = read_array(image)
    if len(pixels) not in (1, 3):
        raise DataError(f"an array with {len(pixels)} channels; legal: 1 (gray) or 3 (red, green, blue)")
    levels = np.rint(scale_array(pixels) * 255).astype(np.uint8)
    return Image.fromarray(levels[0] if len(levels) == 1 else np.ascontiguousarray(levels.transpose(1, 2, 0)))


def read_array(image: Image.Image | NDArray[Any], in_chans: int | None = None) -> NDArray[Any]:
    """Return the values of an image in memory, (C, H, W) of its type.

    The expected number of channels decides between (C, H, W) and (H, W, C), and whether transparency is kept;
    None: the shorter axis is that of the channels.

    Raises:
        DataError: If the array has another shape.
    """
    if isinstance(image, Image.Image):
        pixels, has_alpha = picture_channels(turn_upright(image))
        return pixels[:-1] if has_alpha and len(pixels) != in_chans else pixels
    if image.ndim == 2:
        return image[None]
    if image.ndim != 3:
        raise DataError(f"an array of shape {image.shape}; legal: (H, W), (H, W, C) or (C, H, W)")
    first, last = image.shape[0], image.shape[-1]
    is_last = last == in_chans if in_chans in (first, last) else last < first
    return image.transpose(2, 0, 1) if is_last else image


def scale_array(pixels: NDArray[Any], max_value: float | None = None) -> NDArray[np.float32]:
    """Return the values of an array in units of [0, 1].

    Raises:
        DataError: If they are outside of this range, not finite, or of a type with an unknown range.
    """
    try:
        unit = scale_to_unit_range(pixels, IN_MEMORY, max_value, pixels.dtype, "max_value")
    except FileError as error:
        raise DataError(str(error)) from None
    if pixels.dtype.kind == "f" and max_value is None and ((unit < 0) | (unit > 1)).any():
        given = f"an array of {pixels.dtype} from {unit.min():g} to {unit.max():g}"
        raise DataError(f"{given}; legal: numbers from 0 to 1, or bytes")
    return unit
