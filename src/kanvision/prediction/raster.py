"""Images to predict, of any size: read in rows, with the pixels that hold no data.

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
    has_palette,
    is_georeferenced,
    read_raster,
    tiff_orientation,
    turn,
)
from kanvision.data.files.pillow import PictureError, check_pixels
from kanvision.data.files.pixels import (
    TIFF,
    FileError,
    all_bands,
    fit_channels,
    in_unit_range,
    naming,
    open_geotiff,
    select_bands,
)
from kanvision.data.transforms.normalize import Preprocessing

from .sidecars import check_table, open_mask, read_world_file
from .tile_blending import Strip

__all__ = ["Bands", "Scene", "open_scene"]

CACHE = 256 * 2**20
"""Bytes of blocks that GDAL keeps, in place of 5 % of the machine's memory: enough for a row of blocks."""


@dataclass(frozen=True)
class Bands:
    """From the values of a file to what the network was trained on.

    Attributes:
        in_chans: Channels of the network.
        preprocessing: Normalization of the run.
        bands: Bands of a file to use, counted from 1; None: all.
        max_value: Stored value that becomes 1; None: by the type of the file.
    """

    in_chans: int
    preprocessing: Preprocessing
    bands: tuple[int, ...] | None = None
    max_value: float | None = None

    def chosen(self, path: Path, available: Sequence[int], beside: str = "") -> list[int]:
        """Numbers of the bands to read.

        Args:
            path: The file.
            available: Numbers of those that it has.
            beside: What it has besides, for the message.

        Raises:
            FileError: If they are not what the network takes.
        """
        if self.bands is not None:
            if missing := [band for band in self.bands if band not in available]:
                raise FileError(
                    f"{path}: has {len(available)} bands, so no band {missing[0]}; "
                    f"the run was trained on, or predict.bands asks for, {list(self.bands)}"
                )
            available = self.bands
        # Gray and color become each other, as in training.
        if len(available) != self.in_chans and {len(available), self.in_chans} != {1, 3}:
            plural = "s" * (len(available) != 1)
            raise FileError(
                f"{path}: has {len(available)} band{plural}{beside}, but the network was trained on "
                f"{self.in_chans}; "
                + (
                    f"choose {self.in_chans} of them by predict.bands, in the order of the training data"
                    if len(available) > self.in_chans
                    else f"give a file with {self.in_chans}"
                )
            )
        return list(available)

    def unit(self, strip: Strip, path: Path) -> Tensor:
        """(in_chans, h, W) in units of [0, 1]; pixels without data are as neutral as can be."""
        stored = strip.values.dtype
        values = strip.values if strip.valid.all() else np.where(strip.valid, strip.values, stored.type(0))
        fitting = fit_channels(values, self.in_chans, path)
        pixels = torch.from_numpy(in_unit_range(fitting, path, self.max_value, stored, "predict.max_value"))
        return torch.where(torch.from_numpy(strip.valid), pixels, self.preprocessing.neutral[:, None, None])


class Scene(ABC):
    """An image in a file.

    Args:
        path: The file.
        height: Rows.
        width: Columns.
        bands: How its values are used.
    """

    is_tiff = False
    """Whether results are TIFF files too."""
    georeference: dict[str, Any]
    """Where on Earth it lies, as rasterio writes it; empty: nowhere."""

    def __init__(self, path: Path, height: int, width: int, bands: Bands) -> None:
        self.path = path
        self.height = height
        self.width = width
        self.bands = bands
        self.georeference = {}

    def check_whole(self) -> None:  # noqa: B027 (most images are read whole anyway)
        """Refuse an image that is too large to be resized as a whole."""

    @abstractmethod
    def rows(self, top: int, bottom: int) -> Strip:
        """The rows from `top` up to, not including, `bottom`: stored values of the bands that are used.

        Raises:
            FileError: If they cannot be read.
        """

    def strips(self, size: int) -> Iterator[tuple[int, Strip]]:
        """All rows, `size` at a time, with the number of the first."""
        for top in range(0, self.height, size):
            yield top, self.rows(top, min(top + size, self.height))


class PictureScene(Scene):
    """An image that is read whole: a picture, or an array."""

    def __init__(self, path: Path, bands: Bands) -> None:
        pixels = all_bands(path, bands.in_chans, with_alpha=bands.bands is not None)
        everything = list(range(1, len(pixels) + 1))
        numbers = bands.chosen(path, everything)
        self.pixels = pixels if numbers == everything else pixels[[number - 1 for number in numbers]]
        height, width = pixels.shape[-2:]
        super().__init__(path, height, width, bands)

    def rows(self, top: int, bottom: int) -> Strip:
        """See `Scene`; NaN and infinity are no data."""
        return _finite(self.pixels[:, top:bottom], np.ones((bottom - top, self.width), bool))


class RasterScene(Scene):
    """A TIFF file of any size, of which only the rows are read that are asked for."""

    is_tiff = True

    def __init__(self, path: Path, file: Any, mask: Any | None, bands: Bands) -> None:
        check_table(path, file)
        world_file = read_world_file(path, file)
        with naming(path):
            self.orientation = 1 if world_file else tiff_orientation(path, file)
        height, width = file.shape if self.orientation < 5 else file.shape[::-1]
        super().__init__(path, height, width, bands)
        self.file = file
        self.mask = mask
        available = select_bands(file, bands.in_chans, bands.bands)
        has_alpha = len(available) < file.count
        self.numbers = bands.chosen(path, available, " and transparency" if has_alpha else "")
        self.georeference = _georeference(file) or world_file
        self.stored = [1] if has_palette(file) else self.numbers
        self.masked = [number for number in self.stored if self._is_masked(number)]

    def rows(self, top: int, bottom: int) -> Strip:
        """See `Scene`; nodata values, masks, transparency, NaN and infinity are no data."""
        window = self._window(top, bottom)
        with naming(self.path):
            values = turn(read_raster(self.file, self.numbers, window), self.orientation)
            valid = np.ones((bottom - top, self.width), bool)
            for mask in self._masks(window):
                valid &= turn(mask, self.orientation) > 0
        return _finite(values, valid)

    def _window(self, top: int, bottom: int) -> Any:
        """The part of the file that becomes these rows, once it is turned upright."""
        from rasterio.windows import Window

        if self.orientation in (3, 4, 7, 8):  # the last row comes first
            top, bottom = self.height - bottom, self.height - top
        if self.orientation < 5:
            return Window(0, top, self.width, bottom - top)
        return Window(top, 0, bottom - top, self.width)

    def check_whole(self) -> None:
        """Refuse an image that is too large to be resized as a whole.

        Raises:
            FileError: If it has more pixels than `pixel_limit` allows.
        """
        try:
            check_pixels(self.height, self.width)
        except PictureError as error:
            hint = "predict.tile cuts it into tiles, of which one row is in memory"
            raise FileError(f"{self.path}: {error}; {hint}") from error

    def _masks(self, window: Any) -> Iterator[Any]:
        """Masks (h, W) of the bands in use, 0 where they hold no data; a file of masks is the only one."""
        if self.mask is None:
            yield from (self.file.read_masks(number, window=window) for number in self.masked)
        else:
            numbers = self.stored if self.mask.count > 1 else [1]
            yield from self.mask.read(numbers, window=window)

    def _is_masked(self, number: int) -> bool:
        """Whether something says where a band holds data; not a band that is no transparency but data."""
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
    """Open an image; as long as it is open, GDAL keeps little of what it reads and writes.

    Args:
        path: The file.
        bands: How its values are used.

    Raises:
        FileError: If it cannot be read, or its bands are not those that the network takes.
    """
    if path.suffix.lower() not in TIFF:
        yield PictureScene(path, bands)
        return
    import rasterio

    with rasterio.Env(GDAL_CACHEMAX=CACHE):
        with naming(path):
            file = open_geotiff(path)
        with file, open_mask(path, file) or nullcontext() as mask:
            yield RasterScene(path, file, mask, bands)
