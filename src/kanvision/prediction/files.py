"""Writes predictions row by row; a file appears under its name when it is whole.

K planes, H W space, h rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kanvision.visualization import PALETTE

__all__ = ["BLOCK", "Color", "Write", "array_file", "draft", "nodata_value", "picture_files", "raster_file"]

Write = Callable[[int, NDArray[Any]], None]
"""Writes (K, h, W) from a row on."""

Color = tuple[int, int, int]
"""Red, green and blue in 8 bits."""

BLOCK = 256
"""Side of the blocks of a TIFF file; what is written in groups of so many rows compresses best."""
GRAY = (128, 128, 128)


def nodata_value(num_labels: int) -> int:
    """The label of pixels without data, the largest of 8 bits or, for more than 255 labels, of 16 bits."""
    return 255 if num_labels <= 255 else 65535


def palette(no_data: int, own: Sequence[Color] = ()) -> NDArray[np.uint8]:
    """Return red, green and blue of labels, (256, 3): black, ten colors in turn, gray for no data.

    Args:
        no_data: Label of pixels without data.
        own: Colors of the labels 0, 1, ... instead.
    """
    colors = np.concatenate([np.zeros((1, 3), np.uint8), PALETTE[np.arange(255) % len(PALETTE)]])
    if own:
        colors[: len(own)] = own
    colors[no_data] = GRAY
    return colors


@contextmanager
def draft(path: Path) -> Iterator[Path]:
    """A name to write to, which becomes `path` if nothing goes wrong and else is deleted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    partial.unlink(missing_ok=True)  # whatever an earlier attempt has left
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def raster_file(
    path: Path,
    size: tuple[int, int],
    dtype: str,
    names: Sequence[str],
    *,
    no_data: float,
    georeference: Mapping[str, Any],
    colors: Sequence[Color] = (),
) -> Iterator[Write]:
    """A compressed TIFF file with a band for each plane; a single band of uint8 has colors.

    Args:
        path: The file.
        size: Height and width.
        dtype: Type of the values.
        names: What the bands are called.
        no_data: Value of pixels without data.
        georeference: Arguments of rasterio that say where it lies.
        colors: Colors of the labels 0, 1, ...; empty: those of `palette`.
    """
    import rasterio
    from rasterio.windows import Window

    profile = {
        **{"driver": "GTiff", "height": size[0], "width": size[1], "count": len(names), "dtype": dtype},
        **{"nodata": no_data, "compress": "deflate", "predictor": 3 if dtype == "float32" else 1},
        **{"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "interleave": "band"},
        "bigtiff": "if_safer",
        **georeference,
    }
    with draft(path) as partial:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            file = rasterio.open(partial, "w", **profile)
        with file:
            for number, name in enumerate(names, 1):
                file.set_band_description(number, name)
            if dtype == "uint8" and len(names) == 1:
                colors = palette(int(no_data), colors).tolist()
                file.write_colormap(1, {label: (*color, 255) for label, color in enumerate(colors)})

            def write(top: int, planes: NDArray[Any]) -> None:
                file.write(planes, window=Window(0, top, size[1], planes.shape[1]))

            yield write


@contextmanager
def array_file(path: Path, shape: tuple[int, int, int]) -> Iterator[Write]:
    """A .npy file of float32.

    Args:
        path: The file.
        shape: (K, H, W).
    """
    with draft(path) as partial:
        array = np.lib.format.open_memmap(partial, "w+", np.float32, shape)

        def write(top: int, planes: NDArray[Any]) -> None:
            array[:, top : top + planes.shape[1]] = planes

        yield write
        array.flush()


@contextmanager
def picture_files(
    paths: Sequence[Path], size: tuple[int, int], no_data: int, colors: Sequence[Color] = ()
) -> Iterator[Write]:
    """A .png file for each plane of labels, which holds the labels and shows them in colors.

    More than 255 labels are written as gray values of 16 bits. All planes are in memory until the end, as the
    picture is that they were predicted from.

    Args:
        paths: A file for each plane.
        size: Height and width.
        no_data: Label of pixels without data.
        colors: Colors of the labels 0, 1, ...; empty: those of `palette`.
    """
    whole = np.zeros((len(paths), *size), np.uint8 if no_data == 255 else np.uint16)

    def write(top: int, planes: NDArray[Any]) -> None:
        whole[:, top : top + planes.shape[1]] = planes

    yield write
    for path, plane in zip(paths, whole, strict=True):
        picture = Image.fromarray(plane)
        if plane.dtype == np.uint8:
            picture.putpalette(palette(no_data, colors).tobytes())  # the mode L becomes P
        with draft(path) as partial:
            picture.save(partial, "png")
