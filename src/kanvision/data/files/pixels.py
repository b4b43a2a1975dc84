"""Arrays of the pixels of an image file, with all bits that the file stores.

GeoTIFF is read by rasterio, .npy by numpy, all other formats by Pillow. Images and masks are turned upright
by their EXIF orientation, except georeferenced ones.

C channels, H W space.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .gdal import apply_orientation, has_palette, open_raster, read_raster, tiff_orientation
from .pillow import PictureError, check_pixel_count, has_high_bit_depth, open_picture, read_orientation

__all__ = [
    "TIFF",
    "FileError",
    "fit_channels",
    "name_file_in_errors",
    "open_geotiff",
    "read_all_bands",
    "read_pixels",
    "read_size",
    "scale_to_unit_range",
    "select_bands",
]

Pixels = NDArray[Any]
Floats = NDArray[np.float32]

TIFF = (".tif", ".tiff")
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in gray (ITU-R BT.601, as in Pillow)."""
_OPENING = threading.Lock()


class FileError(ValueError):
    """Error for a file that cannot be used; the message begins with its path."""


def read_size(path: Path) -> tuple[int, int]:
    """Return height and width, from the header of the file if its format has one.

    Raises:
        FileError: If the file cannot be opened.
    """
    orientation = 1
    with name_file_in_errors(path):
        if path.suffix.lower() == ".npy":
            array = load_array(path)
            height, width = array.shape[-2:] if array.ndim == 2 else _channels_first(array, None).shape[-2:]
        elif path.suffix.lower() in TIFF:
            with open_geotiff(path) as file:
                (height, width), orientation = file.shape, tiff_orientation(path, file)
        else:
            with open_picture(path) as picture:
                (width, height), orientation = picture.size, read_orientation(picture)
        check_pixel_count(height, width)
    return (height, width) if orientation < 5 else (width, height)


def read_pixels(path: Path, in_chans: int | None = None, bands: Sequence[int] | None = None) -> Pixels:
    """Return the stored values of an image, (C, H, W) of any type.

    Palettes become colors. Transparency is dropped unless it is one of the chosen bands, because many
    programs mark the fourth of four bands as transparency. A .npy file may hold (H, W), (C,
    H, W) or (H, W, C).

    Args:
        path: The file.
        in_chans: Expected number of channels, which decides between (C, H, W) and (H, W, C).
        bands: Chosen bands, counted from 1; None: all.

    Raises:
        FileError: If the file cannot be read or lacks a band.
    """
    pixels = read_all_bands(path, in_chans, with_alpha=bands is not None)
    if bands is None:
        return pixels
    if missing := [band for band in bands if not 1 <= band <= len(pixels)]:
        raise FileError(
            f"{path}: has {len(pixels)} bands, so no band {missing[0]} (data.bands={list(bands)})"
        )
    return pixels[[band - 1 for band in bands]]


def read_all_bands(path: Path, in_chans: int | None = None, *, with_alpha: bool = False) -> Pixels:
    """Return the stored values of all bands of an image, (C, H, W) of any type.

    Args:
        path: The file.
        in_chans: Expected number of channels, which decides between (C, H, W) and (H, W, C).
        with_alpha: Keep transparency; otherwise it is kept only if it makes `in_chans` bands.

    Raises:
        FileError: If the file cannot be read.
    """
    with name_file_in_errors(path):
        if path.suffix.lower() == ".npy":
            array = np.array(load_array(path))
            return (
                array[None] if array.ndim == 2 else _channels_first(array, None if with_alpha else in_chans)
            )
        if path.suffix.lower() in TIFF:
            with open_geotiff(path) as file:
                return apply_orientation(
                    _read_raster(file, in_chans, with_alpha), tiff_orientation(path, file)
                )
        with open_picture(path) as picture:
            if has_high_bit_depth(picture):
                if picture.format != "PNG":
                    raise PictureError(
                        f"has more than 8 bits a channel, which {picture.format} files lose here; "
                        "save it as PNG or as TIFF called .tif"
                    )
                with open_raster(path, "PNG") as file:
                    pixels = _read_raster(file, in_chans, with_alpha)
            else:
                pixels, has_alpha = picture_channels(picture)
                if has_alpha and not with_alpha and len(pixels) != in_chans:
                    pixels = pixels[:-1]
            return apply_orientation(pixels, read_orientation(picture))


def _read_raster(file: Any, in_chans: int | None, with_alpha: bool) -> Pixels:
    check_pixel_count(*file.shape)
    return read_raster(file, select_bands(file, in_chans, file.indexes if with_alpha else None))


def fit_channels(pixels: Pixels, in_chans: int, path: Path) -> Pixels:
    """Convert gray to color or color to gray to fit the number of channels.

    Args:
        pixels: Pixels, (C, H, W).
        in_chans: Number of channels of the result.
        path: File of the pixels, for the message.

    Returns:
        Pixels, (in_chans, H, W).

    Raises:
        FileError: If the numbers of channels differ in another way.
    """
    count = len(pixels)
    if count == in_chans:
        return pixels
    if (count, in_chans) == (1, 3):
        return np.repeat(pixels, 3, axis=0)
    if (count, in_chans) == (3, 1):
        return np.tensordot(LUMA, pixels.astype(np.float32), axes=1)[None]
    raise FileError(
        f"{path}: has {count} band{'s' * (count != 1)}, data.in_chans={in_chans}; "
        f"set data.in_chans={count}, or choose {in_chans} of them by data.bands if the data set has that key"
    )


def scale_to_unit_range(
    pixels: Pixels,
    path: Path,
    max_value: float | None,
    stored: np.dtype[Any],
    key: str = "data.max_value",
) -> Floats:
    """Return pixels in units of [0, 1] as float32.

    Args:
        pixels: Stored pixels, (C, H, W).
        path: File of the pixels, for the message.
        max_value: Stored value that becomes 1; None: the largest of an unsigned integer type of up to 16
            bits, 1 for floats.
        stored: Data type of the file.
        key: Configuration key of `max_value`, for the message.

    Raises:
        FileError: If values are not finite, or the value that becomes 1 is unknown.
    """
    if stored.kind == "f" and not (finite := np.isfinite(pixels)).all():
        band = int(np.flatnonzero(~finite.all(axis=(1, 2)))[0])
        share = 100 * (1 - finite[band].mean())
        raise FileError(
            f"{path}: band {band + 1} holds NaN or infinity ({share:.3g} % of its pixels); fill them"
        )
    if max_value is None:
        if stored.kind not in "buf" or (stored.itemsize > 2 and stored.kind != "f"):
            raise FileError(f"{path}: pixels are {stored.name}; set {key} to the value that becomes 1")
        max_value = float(np.iinfo(stored).max) if stored.kind == "u" else 1.0
    unit: Floats = np.divide(pixels, np.float32(max_value), dtype=np.float32)
    return unit


def picture_channels(picture: Image.Image) -> tuple[Pixels, bool]:
    """Return the channels (C, H, W) of an image of Pillow in 8 or 16 bits, and True if the last is alpha."""
    mode = picture.mode
    if mode.startswith("I"):
        levels = np.asarray(picture).astype(np.int64)
        if levels.min() < 0 or levels.max() > 65535:
            raise ValueError("its pixels have 32 bits; 8 or 16 bits are legal")
        return levels.astype(np.uint16)[None], False
    if mode == "F":
        return np.asarray(picture)[None], False
    has_alpha = picture.has_transparency_data
    target = ("L" if mode in ("1", "L", "LA", "La") else "RGB") + "A" * has_alpha
    array = np.asarray(picture if mode == target else picture.convert(target))
    return array[None] if target == "L" else array.transpose(2, 0, 1), has_alpha


def _channels_first(array: Pixels, in_chans: int | None) -> Pixels:
    """Return an array that may have its channels last as (C, H, W)."""
    if array.ndim != 3:
        raise ValueError(f"has shape {array.shape}; legal: (H, W), (C, H, W) or (H, W, C)")
    if in_chans is None:
        return array if array.shape[0] <= array.shape[-1] else array.transpose(2, 0, 1)
    if in_chans != array.shape[0] and in_chans == array.shape[-1]:
        return array.transpose(2, 0, 1)
    return array


def load_array(path: Path) -> Pixels:
    """Return the memory map of a .npy file; Python 3.11 parses one header at a time (gh-106905)."""
    with _OPENING:
        array: Pixels = np.load(path, mmap_mode="r", allow_pickle=False)
        return array


def select_bands(file: Any, in_chans: int | None = None, bands: Sequence[int] | None = None) -> list[int]:
    """Return the available band numbers of an open file; three if it has a palette.

    Transparency is not among them, unless it makes `in_chans` channels or the caller chooses bands by number.
    """
    import rasterio.enums

    if has_palette(file):
        return [1, 2, 3]
    if bands is not None or file.count == in_chans:
        return list(file.indexes)
    alpha = rasterio.enums.ColorInterp.alpha
    return [band for band, kind in zip(file.indexes, file.colorinterp, strict=True) if kind != alpha]


def open_geotiff(path: Path) -> Any:
    """Open a TIFF file without the files beside it."""
    return open_raster(path, "GTiff")


@contextmanager
def name_file_in_errors(path: Path) -> Iterator[None]:
    """Turn all errors inside the block into a `FileError` with the path."""
    try:
        yield
    except FileError:
        raise
    except PictureError as error:
        raise FileError(f"{path}: {error}") from error
    # The three libraries raise OSError, SyntaxError, struct.error, ValueError and errors of their own.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        what = f"cannot be read ({reason})"
        if not path.exists():
            what = "is missing"
        elif path.is_file() and not path.stat().st_size:
            what = "is empty (0 bytes)"
        raise FileError(f"{path}: {what}; replace the file or delete it") from error
