"""Files as GDAL opens them: one format each, and nothing that lies beside a file or that it names.

GDAL looks at the contents, not at the name: a text that is called scene.tif can be a virtual raster, which
reads other files of this machine or asks a server. A mask, an overview or a table of metadata beside a file
can do the same. So the format is named, and the folder is kept from GDAL.

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

__all__ = ["has_palette", "is_georeferenced", "open_raster", "read_raster", "tiff_orientation", "turn"]

Pixels = NDArray[Any]
_OPENING = threading.Lock()


def open_raster(path: Path, driver: str = "GTiff") -> Any:
    """Open a file of one format of GDAL.

    Args:
        path: The file.
        driver: GDAL's name of the format.

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
        # Medical pictures and cut-out chips lie nowhere on Earth.
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        try:
            # GDAL gives some beginnings of names a meaning, but none to /.
            return rasterio.open(path.absolute(), driver=driver)
        except rasterio.errors.RasterioIOError as error:
            if "not recognized" in str(error) and path.is_file() and path.stat().st_size:
                kind = "TIFF" if driver == "GTiff" else driver
                raise ValueError(
                    f"is no {kind} file, and other formats are not opened by this name"
                ) from error
            raise


def has_palette(file: Any) -> bool:
    """Return whether the values of an open file are indices of colors."""
    import rasterio.enums

    return bool(file.count == 1 and file.colorinterp[0] == rasterio.enums.ColorInterp.palette)


def read_raster(file: Any, bands: Sequence[int], window: Any = None) -> Pixels:
    """Return bands of an open file, (C, H, W); a palette becomes red, green and blue.

    Args:
        file: The file.
        bands: Numbers, counted from 1.
        window: The part to read, as rasterio has it; None: all.
    """
    if not has_palette(file):
        pixels: Pixels = file.read(list(bands), window=window)
        return pixels
    colors = file.colormap(1)
    table = np.zeros((3, np.iinfo(file.dtypes[0]).max + 1), np.uint8)
    table[:, list(colors)] = np.array(list(colors.values()), np.uint8)[:, :3].T
    return table[:, file.read(1, window=window)][[band - 1 for band in bands]]


def is_georeferenced(file: Any) -> bool:
    """Return whether an open file lies somewhere on Earth."""
    return bool(file.gcps[0]) or file.crs is not None or not file.transform.is_identity


def tiff_orientation(path: Path, file: Any) -> int:
    """Return how the pixels of an open TIFF file are stored, as EXIF numbers it: 1 is upright.

    GDAL takes no notice of it, and places a georeferenced file as it is stored.
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


def turn(pixels: Pixels, orientation: int) -> Pixels:
    """Return stored pixels (..., H, W) upright.

    Args:
        pixels: As they are stored.
        orientation: 1 to 8, as EXIF numbers them.
    """
    if orientation >= 5:
        pixels = pixels.swapaxes(-2, -1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[..., ::-1, :]
    return pixels[..., ::-1] if orientation in (2, 3, 6, 7) else pixels
