"""Pixels of an image or mask file as an array, whatever its format; nothing is squeezed into 8 bits.

GeoTIFF is read by rasterio, .npy by numpy, everything else by Pillow.

C channels, H W space.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = [
    "TIFF",
    "FileError",
    "bands_of",
    "fit_channels",
    "grey_levels",
    "in_unit_range",
    "label_values",
    "naming",
    "open_geotiff",
    "stored_pixels",
    "stored_size",
]

Pixels = NDArray[Any]
Floats = NDArray[np.float32]

TIFF = (".tif", ".tiff")
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in grey (ITU-R BT.601, as Pillow has them)."""
_OPENING = threading.Lock()


class FileError(ValueError):
    """A file cannot be used; the message begins with its path."""


def stored_size(path: Path) -> tuple[int, int]:
    """Height and width, from the file's header where the format has one.

    Raises:
        FileError: If the file cannot be opened.
    """
    with naming(path):
        if path.suffix.lower() == ".npy":
            array = _array(path)
            height, width = array.shape[-2:] if array.ndim == 2 else _planes_first(array, None).shape[-2:]
        elif path.suffix.lower() in TIFF:
            with open_geotiff(path) as file:
                height, width = file.shape
        else:
            with Image.open(path) as picture:
                width, height = picture.size
    return height, width


def stored_pixels(path: Path, in_chans: int | None = None, bands: Sequence[int] | None = None) -> Pixels:
    """All values of an image as they are stored, (C, H, W) of any type.

    Palettes become colours, and transparency is dropped, unless in a GeoTIFF it is one of the bands that are
    wanted: GDAL takes the fourth of four bands of 8 bits for it, whatever it is. A .npy file may hold
    (H, W), (C, H, W) or (H, W, C).

    Args:
        path: The file.
        in_chans: Channels that are expected; decides between (C, H, W) and (H, W, C).
        bands: Those wanted, counted from 1; None: all.

    Raises:
        FileError: If the file cannot be read or has not all the bands.
    """
    with naming(path):
        if path.suffix.lower() == ".npy":
            array = np.array(_array(path))
            pixels = array[None] if array.ndim == 2 else _planes_first(array, None if bands else in_chans)
        elif path.suffix.lower() in TIFF:
            with open_geotiff(path) as file:
                pixels = file.read(bands_of(file, in_chans, bands))
        else:
            with Image.open(path) as picture:
                pixels = _picture(picture)
    if bands is None:
        return pixels
    if missing := [band for band in bands if not 1 <= band <= len(pixels)]:
        raise FileError(
            f"{path}: has {len(pixels)} bands, so no band {missing[0]} (data.bands={list(bands)})"
        )
    return pixels[[band - 1 for band in bands]]


def fit_channels(pixels: Pixels, in_chans: int, path: Path) -> Pixels:
    """Grey to colour and colour to grey; any other difference in channels is refused.

    Args:
        pixels: (C, H, W).
        in_chans: Channels that are wanted.
        path: Where the pixels come from, for the message.

    Returns:
        (in_chans, H, W).

    Raises:
        FileError: If the numbers do not fit.
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
        f"set data.in_chans={count}, or choose {in_chans} of them by data.bands where that key exists"
    )


def in_unit_range(
    pixels: Pixels,
    path: Path,
    max_value: float | None,
    stored: np.dtype[Any],
    key: str = "data.max_value",
) -> Floats:
    """Values in units of [0, 1] as float32.

    Args:
        pixels: (C, H, W).
        path: Where they come from, for the message.
        max_value: Stored value that becomes 1; None: the largest of an unsigned integer type of up to 16
            bits, 1 for floats.
        stored: Type that the file has.
        key: Where `max_value` is set, for the message.

    Raises:
        FileError: If values are not finite, or nothing says which value is to become 1.
    """
    if stored.kind == "f" and not (finite := np.isfinite(pixels)).all():
        band = int(np.flatnonzero(~finite.all(axis=(1, 2)))[0])
        share = 100 * (1 - finite[band].mean())
        raise FileError(
            f"{path}: band {band + 1} holds NaN or infinity ({share:.3g} % of its pixels); fill them"
        )
    if max_value is None:
        if stored.kind not in "buf" or (stored.itemsize > 2 and stored.kind != "f"):
            raise FileError(f"{path}: pixels are {stored.name}; say by {key} which value is to become 1")
        max_value = float(np.iinfo(stored).max) if stored.kind == "u" else 1.0
    unit: Floats = np.divide(pixels, np.float32(max_value), dtype=np.float32)
    return unit


def grey_levels(path: Path) -> Pixels:
    """A mask as grey levels 0 to 255, (H, W) uint8: black and white whatever the file's mode.

    Raises:
        FileError: If the file cannot be read.
    """
    if path.suffix.lower() in (*TIFF, ".npy"):
        values = label_values(path, colours_too=True)
        if values.max(initial=0) > 255:
            values = values // 257
        # Bits are black and white, not two nearly black levels.
        return (values * 255 if _is_bits(path) else values).astype(np.uint8)
    with naming(path), Image.open(path) as picture:
        if picture.mode.startswith("I"):
            return (np.asarray(picture).astype(np.int64) // 257).clip(0, 255).astype(np.uint8)
        return np.asarray(picture.convert("L"))


def label_values(path: Path, *, colours_too: bool = False) -> NDArray[np.int64]:
    """A mask as the numbers that are stored, (H, W): palette files give their indices, not their colours.

    Args:
        path: The file.
        colours_too: Take the brightest channel of a colour picture, which otherwise is refused.

    Raises:
        FileError: If the file cannot be read, or holds colours or fractions.
    """
    with naming(path):
        if path.suffix.lower() == ".npy":
            array = np.array(_array(path))
            planes = array if array.ndim == 3 else array[None]
        elif path.suffix.lower() in TIFF:
            with open_geotiff(path) as file:
                planes = file.read(bands_of(file))
        else:
            with Image.open(path) as picture:
                picture.load()
                planes = np.asarray(picture)[None] if picture.mode == "P" else _picture(picture)
                planes = planes // 255 if picture.mode == "1" else planes
    if planes.ndim != 3:
        raise FileError(f"{path}: has shape {planes.shape}; a mask has height and width")
    if len(planes) > 1 and not colours_too and not (planes == planes[:1]).all():
        raise FileError(
            f"{path}: is a colour picture ({len(planes)} channels); a mask holds one number a pixel, "
            "or is a palette picture"
        )
    values = planes.max(axis=0)
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.floor(values)).all()):
        raise FileError(f"{path}: holds fractions or NaN; a mask holds whole numbers")
    labels: NDArray[np.int64] = values.astype(np.int64)
    return labels


def _picture(picture: Image.Image) -> Pixels:
    """(C, H, W) of a picture in Pillow's hands, in 8 bits, or 16 where it has them."""
    mode = picture.mode
    if mode.startswith("I"):
        levels = np.asarray(picture).astype(np.int64)
        if levels.min() < 0 or levels.max() > 65535:
            raise ValueError("its pixels have 32 bits; 8 or 16 bits are legal")
        return levels.astype(np.uint16)[None]
    if mode == "F":
        return np.asarray(picture)[None]
    target = "L" if mode in ("1", "L", "LA", "La") else "RGB"
    array = np.asarray(picture if mode == target else picture.convert(target))
    return array[None] if target == "L" else array.transpose(2, 0, 1)


def _planes_first(array: Pixels, in_chans: int | None) -> Pixels:
    """(C, H, W) of an array that may have its channels last."""
    if array.ndim != 3:
        raise ValueError(f"has shape {array.shape}; legal: (H, W), (C, H, W) or (H, W, C)")
    if in_chans is None:
        return array if array.shape[0] <= array.shape[-1] else array.transpose(2, 0, 1)
    if in_chans != array.shape[0] and in_chans == array.shape[-1]:
        return array.transpose(2, 0, 1)
    return array


def _array(path: Path) -> Pixels:
    """The array in a .npy file, not read yet; Python 3.11 parses one header at a time (gh-106905)."""
    with _OPENING:
        array: Pixels = np.load(path, mmap_mode="r", allow_pickle=False)
        return array


def bands_of(file: Any, in_chans: int | None = None, bands: Sequence[int] | None = None) -> list[int]:
    """Bands of an open GeoTIFF that there are to choose from; a palette is left as indices.

    Transparency is none of them, unless the caller wants so many channels, or numbers bands.
    """
    import rasterio.enums

    if bands is not None or file.count == in_chans:
        return list(file.indexes)
    alpha = rasterio.enums.ColorInterp.alpha
    return [band for band, kind in zip(file.indexes, file.colorinterp, strict=True) if kind != alpha]


def _is_bits(path: Path) -> bool:
    if path.suffix.lower() == ".npy":
        return bool(_array(path).dtype == np.bool_)
    with open_geotiff(path) as file:
        return str(file.tags(1, ns="IMAGE_STRUCTURE").get("NBITS")) == "1"


def open_geotiff(path: Path) -> Any:
    """The open file; Python's warnings are shared by all threads, so one opens at a time."""
    import rasterio

    with _OPENING, warnings.catch_warnings():
        # Medical pictures and cut-out chips lie nowhere on Earth.
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        return rasterio.open(path)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file in whatever is raised."""
    try:
        yield
    except FileError:
        raise
    # The three libraries raise OSError, SyntaxError, struct.error, ValueError and errors of their own.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        what = f"cannot be read ({reason})"
        if not path.exists():
            what = "is missing"
        elif path.is_file() and not path.stat().st_size:
            what = "is empty (0 bytes)"
        raise FileError(f"{path}: {what}; replace the file or delete it") from error
