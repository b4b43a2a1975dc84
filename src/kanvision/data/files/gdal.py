"""Raster files opened by GDAL in one named format, without the files beside them or named in them.

GDAL recognizes formats by contents, not by names: a text called scene.tif can be a virtual raster, which
reads other files of this machine or contacts a server. A mask, an overview or metadata beside a file can do
the same. So the format is named, and the folder is hidden from GDAL.

C channels, H W space.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags
from PIL.TiffImagePlugin import ImageFileDirectory_v2

__all__ = [
    "apply_orientation",
    "detect_lossy_compression",
    "has_palette",
    "is_georeferenced",
    "open_raster",
    "read_raster",
    "tiff_orientation",
]

Pixels = NDArray[Any]
_OPENING = threading.Lock()


def open_raster(path: Path, driver: str = "GTiff") -> Any:
    """Open a raster file in one format of GDAL.

    Args:
        path: Path of the file.
        driver: Name of the format in GDAL.

    Raises:
        ValueError: If the file has another format.
        rasterio.errors.RasterioIOError: If it cannot be read.
    """
    import rasterio

    # Python's warnings are shared by all threads, so one opens at a time.
    with (
        _OPENING,
        warnings.catch_warnings(),
        rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"),
    ):
        # Medical images and cut-out chips have no georeference.
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        try:
            # GDAL gives a meaning to some prefixes of names, but none to /.
            return rasterio.open(path.absolute(), driver=driver)
        except rasterio.errors.RasterioIOError as error:
            if "not recognized" in str(error) and path.is_file() and path.stat().st_size:
                kind = "TIFF" if driver == "GTiff" else driver
                raise ValueError(
                    f"is not a {kind} file, and other formats are not opened under this suffix"
                ) from error
            raise


def has_palette(file: Any) -> bool:
    """Return True if the values of an open file are indices of a color palette."""
    import rasterio.enums

    return bool(file.count == 1 and file.colorinterp[0] == rasterio.enums.ColorInterp.palette)


def read_raster(file: Any, bands: Sequence[int], window: Any = None) -> Pixels:
    """Return bands of an open file, (C, H, W); palette indices become red, green and blue.

    Args:
        file: The file.
        bands: Band numbers, counted from 1.
        window: Window of rasterio to read; None: the whole file.
    """
    if not has_palette(file):
        pixels: Pixels = file.read(list(bands), window=window)
        return pixels
    colors = file.colormap(1)
    table = np.zeros((3, np.iinfo(file.dtypes[0]).max + 1), np.uint8)
    table[:, list(colors)] = np.array(list(colors.values()), np.uint8)[:, :3].T
    return table[:, file.read(1, window=window)][[band - 1 for band in bands]]


def detect_lossy_compression(file: Any) -> str:
    """Return how an open TIFF file loses values, such as "a TIFF compressed by JPEG"; "" if it keeps them."""
    facts = file.tags(ns="IMAGE_STRUCTURE")
    kind = facts.get("COMPRESSION", "")
    is_lossy = (
        "JPEG" in kind
        or facts.get("COMPRESSION_REVERSIBILITY") == "LOSSY"
        or float(facts.get("MAX_Z_ERROR", 0)) > 0
    )
    return f"a TIFF compressed by {kind.removeprefix('YCbCr ')}" if is_lossy else ""


def is_georeferenced(file: Any) -> bool:
    """Return True if an open file has a georeference."""
    return bool(file.gcps[0]) or file.crs is not None or not file.transform.is_identity


def tiff_orientation(path: Path, file: Any) -> int:
    """Return the EXIF orientation (1 to 8, 1 being upright) of an open TIFF file.

    GDAL ignores it, and georeferences pixels as they are stored, so a georeferenced file counts as upright.
    """
    if is_georeferenced(file):
        return 1
    with path.open("rb") as stream:
        header = stream.read(8)
        header += stream.read(8) if header[2] == 43 else b""  # BigTIFF
        tags = ImageFileDirectory_v2(header)
        stream.seek(tags.next)
        tags.load(stream)
    found = tags.get(ExifTags.Base.Orientation, 1)
    return int(found) if found in range(1, 9) else 1


def apply_orientation(pixels: Pixels, orientation: int) -> Pixels:
    """Return stored pixels (..., H, W) turned upright.

    Args:
        pixels: Pixels as they are stored.
        orientation: EXIF orientation, 1 to 8.
    """
    if orientation >= 5:
        pixels = pixels.swapaxes(-2, -1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[..., ::-1, :]
    return pixels[..., ::-1] if orientation in (2, 3, 6, 7) else pixels
