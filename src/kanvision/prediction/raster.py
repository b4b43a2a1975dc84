"""Images of any size to predict, read by rows, with a mask of the pixels that hold data.

C bands, H W space, h rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanvision.data.files.gdal import (
    apply_orientation,
    has_palette,
    is_georeferenced,
    read_raster,
    tiff_orientation,
)
from kanvision.data.files.pillow import PictureError, check_pixel_count
from kanvision.data.files.pixels import (
    TIFF,
    FileError,
    fit_channels,
    name_file_in_errors,
    open_geotiff,
    read_all_bands,
    scale_to_unit_range,
    select_bands,
)
from kanvision.data.transforms.normalize import Preprocessing

from .sidecars import check_metadata_file, open_mask, read_world_file
from .tile_blending import Strip

__all__ = ["ArrayScene", "Bands", "Scene", "open_scene"]

CACHE = 256 * 2**20
"""Bytes of GDAL's block cache, instead of 5 % of the memory of the machine; enough for a row of blocks."""


@dataclass(frozen=True)
class Bands:
    """Choice of the bands of a file, and their scaling to the input of the network.

    Attributes:
        in_chans: Number of input channels of the network.
        preprocessing: Normalization of the run.
        bands: Bands of a file to use, counted from 1; None: all.
        max_value: Stored value that becomes 1; None: by the type of the file.
    """

    in_chans: int
    preprocessing: Preprocessing
    bands: tuple[int, ...] | None = None
    max_value: float | None = None

    def select(self, path: Path, available: Sequence[int], beside: str = "") -> list[int]:
        """Return the numbers of the bands to read.

        Args:
            path: The file.
            available: Band numbers of the file.
            beside: Other contents of the file, for the message.

        Raises:
            FileError: If the bands do not fit the network.
        """
        if self.bands is not None:
            if missing := [band for band in self.bands if band not in available]:
                raise FileError(
                    f"{path}: has {len(available)} bands, so no band {missing[0]}; "
                    f"the run was trained on, or predict.bands asks for, {list(self.bands)}"
                )
            available = self.bands
        # Gray and color are converted to each other, as in training.
        if len(available) != self.in_chans and {len(available), self.in_chans} != {1, 3}:
            plural = "s" * (len(available) != 1)
            raise FileError(
                f"{path}: has {len(available)} band{plural}{beside}, but the network was trained on "
                f"{self.in_chans}; "
                + (
                    f"choose {self.in_chans} of them by predict.bands, in the order of the training data"
                    if len(available) > self.in_chans
                    else f"choose a file with {self.in_chans}"
                )
            )
        return list(available)

    def scale(self, strip: Strip, path: Path) -> Tensor:
        """Return rows, (in_chans, h, W) in units of [0, 1], with the mean in pixels without data."""
        stored = strip.values.dtype
        values = strip.values if strip.valid.all() else np.where(strip.valid, strip.values, stored.type(0))
        fitting = fit_channels(values, self.in_chans, path)
        pixels = torch.from_numpy(
            scale_to_unit_range(fitting, path, self.max_value, stored, "predict.max_value")
        )
        return torch.where(torch.from_numpy(strip.valid), pixels, self.preprocessing.neutral[:, None, None])


class Scene(ABC):
    """Base of images in files.

    Args:
        path: The file.
        height: Number of rows.
        width: Number of columns.
        bands: Bands to use and their scaling.
    """

    is_tiff = False
    """True if results are TIFF files too."""
    georeference: dict[str, Any]
    """Georeference as arguments of rasterio; empty: none."""

    def __init__(self, path: Path, height: int, width: int, bands: Bands) -> None:
        self.path = path
        self.height = height
        self.width = width
        self.bands = bands
        self.georeference = {}

    def check_size(self) -> None:  # noqa: B027 (most images are read whole anyway)
        """Check that the image is small enough to be resized as a whole."""

    @abstractmethod
    def read_rows(self, top: int, bottom: int) -> Strip:
        """Return the stored values of the rows from `top` up to, not including, `bottom`.

        Raises:
            FileError: If they cannot be read.
        """

    def iter_strips(self, size: int) -> Iterator[tuple[int, Strip]]:
        """Yield all rows, `size` at a time, with the number of the first row."""
        for top in range(0, self.height, size):
            yield top, self.read_rows(top, min(top + size, self.height))


class ArrayScene(Scene):
    """Image in memory.

    Args:
        pixels: Stored values, (C, H, W).
        path: File of the pixels, or words for messages.
        bands: Bands to use and their scaling.

    Raises:
        FileError: If its bands do not fit the network.
    """

    def __init__(self, pixels: Any, path: Path, bands: Bands) -> None:
        everything = list(range(1, len(pixels) + 1))
        numbers = bands.select(path, everything)
        self.pixels = pixels if numbers == everything else pixels[[number - 1 for number in numbers]]
        height, width = pixels.shape[-2:]
        super().__init__(path, height, width, bands)

    def read_rows(self, top: int, bottom: int) -> Strip:
        """Return rows as for `Scene`; NaN and infinity are pixels without data."""
        return _finite(self.pixels[:, top:bottom], np.ones((bottom - top, self.width), bool))


class RasterScene(Scene):
    """TIFF file of any size, of which single rows can be read."""

    is_tiff = True

    def __init__(self, path: Path, file: Any, mask: Any | None, bands: Bands) -> None:
        check_metadata_file(path, file)
        world_file = read_world_file(path, file)
        with name_file_in_errors(path):
            self.orientation = 1 if world_file else tiff_orientation(path, file)
        height, width = file.shape if self.orientation < 5 else file.shape[::-1]
        super().__init__(path, height, width, bands)
        self.file = file
        self.mask = mask
        available = select_bands(file, bands.in_chans, bands.bands)
        has_alpha = len(available) < file.count
        self.numbers = bands.select(path, available, " and transparency" if has_alpha else "")
        self.georeference = _georeference(file) or world_file
        self.stored = [1] if has_palette(file) else self.numbers
        self.masked = [number for number in self.stored if self._is_masked(number)]

    def read_rows(self, top: int, bottom: int) -> Strip:
        """Return rows as for `Scene`; nodata, masks, transparency, NaN and infinity mark missing data."""
        window = self._window(top, bottom)
        with name_file_in_errors(self.path):
            values = apply_orientation(read_raster(self.file, self.numbers, window), self.orientation)
            valid = np.ones((bottom - top, self.width), bool)
            for mask in self._masks(window):
                valid &= apply_orientation(mask, self.orientation) > 0
        return _finite(values, valid)

    def _window(self, top: int, bottom: int) -> Any:
        """Return the window of the file that holds given rows of the upright image."""
        from rasterio.windows import Window

        if self.orientation in (3, 4, 7, 8):  # the last row comes first
            top, bottom = self.height - bottom, self.height - top
        if self.orientation < 5:
            return Window(0, top, self.width, bottom - top)
        return Window(top, 0, bottom - top, self.width)

    def check_size(self) -> None:
        """Check that the image is small enough to be resized as a whole.

        Raises:
            FileError: If it has more pixels than `pixel_limit` allows.
        """
        try:
            check_pixel_count(self.height, self.width)
        except PictureError as error:
            hint = "predict.tile cuts it into tiles, of which one row is in memory"
            raise FileError(f"{self.path}: {error}; {hint}") from error

    def _masks(self, window: Any) -> Iterator[Any]:
        """Yield masks (h, W) of the bands in use, 0 for no data; a mask file takes precedence."""
        if self.mask is None:
            yield from (self.file.read_masks(number, window=window) for number in self.masked)
        else:
            numbers = self.stored if self.mask.count > 1 else [1]
            yield from self.mask.read(numbers, window=window)

    def _is_masked(self, number: int) -> bool:
        """Return True if a band has a mask of its data, unless it is transparency that is used as data."""
        flags = {flag.name for flag in self.file.mask_flag_enums[number - 1]}
        is_data = "alpha" in flags and len(self.numbers) == self.file.count
        return "all_valid" not in flags and not is_data


def _georeference(file: Any) -> dict[str, Any]:
    points, system = file.gcps
    if points:
        return {"gcps": points, "crs": system}
    return {"crs": file.crs, "transform": file.transform} if is_georeferenced(file) else {}


def _finite(values: Any, valid: Any) -> Strip:
    return Strip(values, valid & np.isfinite(values).all(axis=0) if values.dtype.kind == "f" else valid)


@contextmanager
def open_scene(path: Path, bands: Bands) -> Iterator[Scene]:
    """Open an image, with a small block cache of GDAL.

    Args:
        path: The file.
        bands: Bands to use and their scaling.

    Raises:
        FileError: If it cannot be read, or its bands do not fit the network.
    """
    if path.suffix.lower() not in TIFF:
        yield ArrayScene(
            read_all_bands(path, bands.in_chans, with_alpha=bands.bands is not None), path, bands
        )
        return
    import rasterio

    with rasterio.Env(GDAL_CACHEMAX=CACHE):
        with name_file_in_errors(path):
            file = open_geotiff(path)
        with file, open_mask(path, file) or nullcontext() as mask:
            yield RasterScene(path, file, mask, bands)
