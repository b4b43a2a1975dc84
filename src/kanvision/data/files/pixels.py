"""Pixels of an image or mask file as an array, whatever its format; nothing is squeezed into 8 bits.

GeoTIFF is read by rasterio, .npy by numpy, everything else by Pillow. Images and masks are turned upright, as
their EXIF orientation says, except georeferenced ones.

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

from .gdal import has_palette, open_raster, read_raster, tiff_orientation, turn
from .mask_values import encode_colors
from .pillow import PictureError, check_pixels, has_more_bits, open_picture, read_orientation

__all__ = [
    "TIFF",
    "FileError",
    "all_bands",
    "fit_channels",
    "gray_levels",
    "in_unit_range",
    "label_values",
    "naming",
    "open_geotiff",
    "select_bands",
    "stored_pixels",
    "stored_size",
]

Pixels = NDArray[Any]
Floats = NDArray[np.float32]

TIFF = (".tif", ".tiff")
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in gray (ITU-R BT.601, as Pillow has them)."""
TINT = 32
"""Least difference between the channels of a colored pixel; JPEG gives gray ones smaller differences."""
_OPENING = threading.Lock()


class FileError(ValueError):
    """A file cannot be used; the message begins with its path."""


def stored_size(path: Path) -> tuple[int, int]:
    """Height and width, from the file's header where the format has one.

    Raises:
        FileError: If the file cannot be opened.
    """
    orientation = 1
    with naming(path):
        if path.suffix.lower() == ".npy":
            array = _array(path)
            height, width = array.shape[-2:] if array.ndim == 2 else _planes_first(array, None).shape[-2:]
        elif path.suffix.lower() in TIFF:
            with open_geotiff(path) as file:
                (height, width), orientation = file.shape, tiff_orientation(path, file)
        else:
            with open_picture(path) as picture:
                (width, height), orientation = picture.size, read_orientation(picture)
        check_pixels(height, width)
    return (height, width) if orientation < 5 else (width, height)


def stored_pixels(path: Path, in_chans: int | None = None, bands: Sequence[int] | None = None) -> Pixels:
    """All values of an image as they are stored, (C, H, W) of any type.

    Palettes become colors, and transparency is dropped, unless it is one of the bands that are wanted: many
    a program calls the fourth of four bands so, whatever it is. A .npy file may hold (H, W), (C, H, W) or
    (H, W, C).

    Args:
        path: The file.
        in_chans: Channels that are expected; decides between (C, H, W) and (H, W, C).
        bands: Those wanted, counted from 1; None: all.

    Raises:
        FileError: If the file cannot be read or has not all the bands.
    """
    pixels = all_bands(path, in_chans, with_alpha=bands is not None)
    if bands is None:
        return pixels
    if missing := [band for band in bands if not 1 <= band <= len(pixels)]:
        raise FileError(
            f"{path}: has {len(pixels)} bands, so no band {missing[0]} (data.bands={list(bands)})"
        )
    return pixels[[band - 1 for band in bands]]


def all_bands(path: Path, in_chans: int | None = None, *, with_alpha: bool = False) -> Pixels:
    """All values of an image as they are stored, (C, H, W) of any type.

    Args:
        path: The file.
        in_chans: As for `stored_pixels`.
        with_alpha: Keep transparency; otherwise it is kept where there are `in_chans` bands with it.

    Raises:
        FileError: If the file cannot be read.
    """
    with naming(path):
        if path.suffix.lower() == ".npy":
            array = np.array(_array(path))
            return array[None] if array.ndim == 2 else _planes_first(array, None if with_alpha else in_chans)
        if path.suffix.lower() in TIFF:
            with open_geotiff(path) as file:
                return turn(_raster(file, in_chans, with_alpha), tiff_orientation(path, file))
        with open_picture(path) as picture:
            if has_more_bits(picture):
                if picture.format != "PNG":
                    raise PictureError(
                        f"has more than 8 bits a channel, which {picture.format} files lose here; "
                        "save it as PNG or as TIFF called .tif"
                    )
                with open_raster(path, "PNG") as file:
                    pixels = _raster(file, in_chans, with_alpha)
            else:
                pixels, has_alpha = _picture(picture)
                if has_alpha and not with_alpha and len(pixels) != in_chans:
                    pixels = pixels[:-1]
            return turn(pixels, read_orientation(picture))


def _raster(file: Any, in_chans: int | None, with_alpha: bool) -> Pixels:
    check_pixels(*file.shape)
    return read_raster(file, select_bands(file, in_chans, file.indexes if with_alpha else None))


def fit_channels(pixels: Pixels, in_chans: int, path: Path) -> Pixels:
    """Gray to color and color to gray; any other difference in channels is refused.

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


def gray_levels(path: Path) -> Pixels:
    """A mask as gray levels 0 to 255, (H, W) uint8: black and white whatever the file's mode.

    Raises:
        FileError: If the file cannot be read, or holds colors.
    """
    if path.suffix.lower() == ".npy" or (path.suffix.lower() in TIFF and not _has_palette(path)):
        values = label_values(path)
        if values.max(initial=0) > 255:
            values = values // 257
        # Bits are black and white, not two nearly black levels.
        return (values * 255 if _is_bits(path) else values).astype(np.uint8)
    if path.suffix.lower() in TIFF:
        colors = all_bands(path).transpose(1, 2, 0)
        return _gray(Image.fromarray(np.ascontiguousarray(colors)), path)
    with naming(path), open_picture(path) as picture:
        if picture.mode.startswith("I"):
            levels = (np.asarray(picture).astype(np.int64) // 257).clip(0, 255).astype(np.uint8)
        else:
            levels = _gray(picture, path)
        return turn(levels, read_orientation(picture))


def _gray(picture: Image.Image, path: Path) -> Pixels:
    """Return gray levels, (H, W), of a picture that must have no colors."""
    if picture.mode not in ("1", "L", "LA", "La"):
        colors = np.asarray(picture.convert("RGB"))
        if np.ptp(colors, axis=2).max(initial=0) > TINT:
            raise FileError(
                f"{path}: is a color picture, of which a threshold would lose classes; save it in gray, or "
                "name its colors by data.palette"
            )
    return np.asarray(picture.convert("L"))


def label_values(path: Path, *, colors_too: bool = False) -> NDArray[np.int64]:
    """A mask as the numbers that are stored, (H, W): palette files give their indices, not their colors.

    Args:
        path: The file.
        colors_too: Take colors, which otherwise are refused, as the codes of `mask_values`.

    Raises:
        FileError: If the file cannot be read, or holds colors or fractions.
    """
    with naming(path):
        planes = _label_planes(path)
    if planes.ndim != 3:
        raise FileError(f"{path}: has shape {planes.shape}; a mask has height and width")
    if len(planes) > 1 and not (planes == planes[:1]).all():
        if colors_too and len(planes) == 3 and planes.dtype == np.uint8:
            return encode_colors(planes)
        raise FileError(
            f"{path}: is a color picture ({len(planes)} channels); a mask holds one number a pixel, "
            "or is a palette picture, or data.palette names its colors"
        )
    values = planes.max(axis=0)
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.floor(values)).all()):
        raise FileError(f"{path}: holds fractions or NaN; a mask holds whole numbers")
    labels: NDArray[np.int64] = values.astype(np.int64)
    return labels


def _label_planes(path: Path) -> Pixels:
    """Channels of a mask, (C, H, W), those of a palette file being its indices."""
    if path.suffix.lower() == ".npy":
        array = np.array(_array(path))
        return array if array.ndim == 3 else array[None]
    if path.suffix.lower() in TIFF:
        with open_geotiff(path) as file:
            check_pixels(*file.shape)
            numbers = [1] if has_palette(file) else select_bands(file)
            return turn(file.read(numbers), tiff_orientation(path, file))
    with open_picture(path) as picture:
        if has_more_bits(picture):
            return all_bands(path)
        picture.load()
        if picture.mode == "P":
            planes = np.asarray(picture)[None]
        else:
            planes, has_alpha = _picture(picture)
            planes = planes[:-1] if has_alpha else planes
        planes = planes // 255 if picture.mode == "1" else planes
        return turn(planes, read_orientation(picture))


def _picture(picture: Image.Image) -> tuple[Pixels, bool]:
    """(C, H, W) of a picture in Pillow's hands, of 8 bits or 16 where it has them; is the last one alpha?"""
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


def select_bands(file: Any, in_chans: int | None = None, bands: Sequence[int] | None = None) -> list[int]:
    """Bands of an open file that there are to choose from; three if it has a palette.

    Transparency is none of them, unless the caller wants so many channels, or numbers bands.
    """
    import rasterio.enums

    if has_palette(file):
        return [1, 2, 3]
    if bands is not None or file.count == in_chans:
        return list(file.indexes)
    alpha = rasterio.enums.ColorInterp.alpha
    return [band for band, kind in zip(file.indexes, file.colorinterp, strict=True) if kind != alpha]


def _is_bits(path: Path) -> bool:
    if path.suffix.lower() == ".npy":
        return bool(_array(path).dtype == np.bool_)
    with open_geotiff(path) as file:
        return str(file.tags(1, ns="IMAGE_STRUCTURE").get("NBITS")) == "1"


def _has_palette(path: Path) -> bool:
    with naming(path), open_geotiff(path) as file:
        return has_palette(file)


def open_geotiff(path: Path) -> Any:
    """The open file; what lies beside it is not looked at."""
    return open_raster(path, "GTiff")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file in whatever is raised."""
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
