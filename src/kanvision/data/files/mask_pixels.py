"""Stored values of a mask file, (H, W): gray levels, class numbers or colors, in any file format.

H W space.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .gdal import apply_orientation, detect_lossy_compression, has_palette, tiff_orientation
from .mask_values import Codes, encode_colors, format_values, split_color
from .pillow import (
    check_pixel_count,
    detect_lossy_encoding,
    has_high_bit_depth,
    open_picture,
    read_orientation,
)
from .pixels import (
    TIFF,
    FileError,
    Pixels,
    load_array,
    name_file_in_errors,
    open_geotiff,
    picture_channels,
    read_all_bands,
    select_bands,
)

__all__ = [
    "detect_lossy_format",
    "read_binary_values",
    "read_gray_levels",
    "read_label_values",
    "read_lossless_labels",
]

TINT = 32
"""Least difference between the channels of a colored pixel; JPEG gives gray pixels smaller differences."""


def read_gray_levels(path: Path) -> Pixels:
    """Return a mask as gray levels 0 to 255, (H, W) uint8: black and white in any color mode.

    Raises:
        FileError: If the file cannot be read, or holds colors.
    """
    suffix = path.suffix.lower()
    if suffix == ".npy" or (suffix in TIFF and not _is_rgb(path)):
        values = read_label_values(path)
        if values.max(initial=0) > 255:
            values = values // 257
        # Bits are black and white, not two nearly black levels.
        return (values * 255 if _is_bits(path) else values).astype(np.uint8)
    if suffix in TIFF:
        colors = read_all_bands(path).transpose(1, 2, 0)
        return _to_gray(Image.fromarray(np.ascontiguousarray(colors)), path)
    with name_file_in_errors(path), open_picture(path) as picture:
        if picture.mode.startswith("I"):
            levels = (np.asarray(picture).astype(np.int64) // 257).clip(0, 255).astype(np.uint8)
        else:
            levels = _to_gray(picture, path)
        return apply_orientation(levels, read_orientation(picture))


def _to_gray(picture: Image.Image, path: Path) -> Pixels:
    """Return the gray levels, (H, W), of a picture that must have no colors."""
    if picture.mode not in ("1", "L", "LA", "La"):
        colors = np.asarray(picture.convert("RGB"))
        if np.ptp(colors, axis=2).max(initial=0) > TINT:
            raise FileError(
                f"{path}: is a color picture, of which a threshold would lose classes; save it in gray, or "
                "name its colors by data.palette"
            )
    return np.asarray(picture.convert("L"))


def read_label_values(path: Path, *, allow_colors: bool = False) -> Codes:
    """Return the stored numbers of a mask, (H, W); palette files give their indices, not their colors.

    Args:
        path: The file.
        allow_colors: Return colors as the codes of `mask_values`; otherwise they are refused.

    Raises:
        FileError: If the file cannot be read, or holds colors or fractions.
    """
    with name_file_in_errors(path):
        planes = _label_planes(path)
    if planes.ndim != 3:
        raise FileError(f"{path}: has shape {planes.shape}; a mask has height and width")
    if len(planes) > 1 and not (planes == planes[:1]).all():
        if allow_colors and len(planes) == 3 and planes.dtype == np.uint8:
            return encode_colors(planes)
        raise FileError(
            f"{path}: is a color picture ({len(planes)} channels); a mask holds one number a pixel, "
            "or is a palette picture, or data.palette names its colors"
        )
    values = planes.max(axis=0)
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.floor(values)).all()):
        raise FileError(f"{path}: holds fractions or NaN; a mask holds whole numbers")
    labels: Codes = values.astype(np.int64)
    return labels


def _label_planes(path: Path) -> Pixels:
    """Return the channels of a mask, (C, H, W); those of a palette file are its indices."""
    if path.suffix.lower() == ".npy":
        array = np.array(load_array(path))
        return array if array.ndim == 3 else array[None]
    if path.suffix.lower() in TIFF:
        with open_geotiff(path) as file:
            check_pixel_count(*file.shape)
            numbers = [1] if has_palette(file) else select_bands(file)
            return apply_orientation(file.read(numbers), tiff_orientation(path, file))
    with open_picture(path) as picture:
        if has_high_bit_depth(picture):
            return read_all_bands(path)
        picture.load()
        if picture.mode == "P":
            planes: NDArray[Any] = np.asarray(picture)[None]
        else:
            planes, has_alpha = picture_channels(picture)
            planes = planes[:-1] if has_alpha else planes
        planes = planes // 255 if picture.mode == "1" else planes
        return apply_orientation(planes, read_orientation(picture))


def read_binary_values(path: Path) -> Codes:
    """Return the stored values of a mask that shows one foreground, (H, W), colors as codes.

    Raises:
        FileError: If the file cannot be read, or is lossy with noise around black and white.
    """
    values = read_label_values(path, allow_colors=True)
    found = set(np.unique(values).tolist()) - {0}
    if len(found) > 1 and (kind := detect_lossy_format(path)):
        fix = "data.threshold=127 keeps the bright ones"
        if max(np.ptp(split_color(code)) for code in found) > TINT:
            fix = "save colors as PNG, and name them by data.palette"
        raise FileError(
            f"{path}: is {kind} with {format_values(found)} besides 0, and data.threshold=0 makes all of "
            f"them foreground; {fix}"
        )
    return values


def read_lossless_labels(path: Path) -> Codes:
    """Return the numbers of classes or objects that a mask holds, (H, W).

    Raises:
        FileError: If the file cannot be read, holds colors or fractions, or is lossy.
    """
    if kind := detect_lossy_format(path):
        raise FileError(f"{path}: is {kind}, which does not keep the numbers of classes; save masks as PNG")
    return read_label_values(path)


def detect_lossy_format(path: Path) -> str:
    """Return the format of a file that changes the values which were saved, such as "a JPEG"; else ""."""
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return ""
    with name_file_in_errors(path):
        if suffix in TIFF:
            with open_geotiff(path) as file:
                return detect_lossy_compression(file)
        with open_picture(path) as picture:
            return detect_lossy_encoding(picture)


def _is_bits(path: Path) -> bool:
    if path.suffix.lower() == ".npy":
        return bool(load_array(path).dtype == np.bool_)
    with open_geotiff(path) as file:
        return str(file.tags(1, ns="IMAGE_STRUCTURE").get("NBITS")) == "1"


def _is_rgb(path: Path) -> bool:
    """Return True if a TIFF file holds red, green and blue in 8 bits, or a palette of them."""
    with name_file_in_errors(path), open_geotiff(path) as file:
        return has_palette(file) or (len(select_bands(file)) == 3 and set(file.dtypes) == {"uint8"})
