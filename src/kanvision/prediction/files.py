"""Writers of prediction files by rows, which rename a file when it is complete.

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

__all__ = [
    "BLOCK",
    "Color",
    "Write",
    "choose_nodata_value",
    "open_array_file",
    "open_picture_files",
    "open_raster_file",
    "write_atomically",
]

Write = Callable[[int, NDArray[Any]], None]
"""Function that writes planes (K, h, W) from a row on."""

Color = tuple[int, int, int]
"""Red, green and blue in 8 bits."""

BLOCK = 256
"""Side of the blocks of a TIFF file; writing this number of rows at a time compresses best."""
GRAY = (128, 128, 128)


def choose_nodata_value(num_labels: int) -> int:
    """Return the label of pixels without data, 255 or, for more than 255 labels, 65535."""
    return 255 if num_labels <= 255 else 65535


def build_palette(no_data: int, own: Sequence[Color] = ()) -> NDArray[np.uint8]:
    """Return the colors of labels, (256, 3): black, ten colors repeated, gray for no data.

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
def write_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path, renamed to `path` at the end of the block or deleted after an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)  # from an earlier run that was killed
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def open_raster_file(
    path: Path,
    size: tuple[int, int],
    dtype: str,
    names: Sequence[str],
    *,
    no_data: float,
    georeference: Mapping[str, Any],
    colors: Sequence[Color] = (),
) -> Iterator[Write]:
    """Open a compressed TIFF file with a band for each plane; a single band of uint8 has colors.

    Args:
        path: The file.
        size: Height and width.
        dtype: Data type.
        names: Names of the bands.
        no_data: Value of pixels without data.
        georeference: Arguments of rasterio for the georeference.
        colors: Colors of the labels 0, 1, ...; empty: those of `build_palette`.
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
    with write_atomically(path) as part:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            file = rasterio.open(part, "w", **profile)
        with file:
            for number, name in enumerate(names, 1):
                file.set_band_description(number, name)
            if dtype == "uint8" and len(names) == 1:
                colors = build_palette(int(no_data), colors).tolist()
                file.write_colormap(1, {label: (*color, 255) for label, color in enumerate(colors)})

            def write(top: int, planes: NDArray[Any]) -> None:
                file.write(planes, window=Window(0, top, size[1], planes.shape[1]))

            yield write


@contextmanager
def open_array_file(path: Path, shape: tuple[int, int, int]) -> Iterator[Write]:
    """Open a .npy file of float32.

    Args:
        path: The file.
        shape: Shape of the array, (K, H, W).
    """
    with write_atomically(path) as part:
        array = np.lib.format.open_memmap(part, "w+", np.float32, shape)

        def write(top: int, planes: NDArray[Any]) -> None:
            array[:, top : top + planes.shape[1]] = planes

        yield write
        array.flush()


@contextmanager
def open_picture_files(
    paths: Sequence[Path], size: tuple[int, int], no_data: int, colors: Sequence[Color] = ()
) -> Iterator[Write]:
    """Open a .png file for each plane of labels, which stores the labels with a palette of colors.

    More than 255 labels are stored as 16-bit gray. All planes stay in memory until the end, as the image does
    that they are predicted from.

    Args:
        paths: A file for each plane.
        size: Height and width.
        no_data: Label of pixels without data.
        colors: Colors of the labels 0, 1, ...; empty: those of `build_palette`.
    """
    whole = np.zeros((len(paths), *size), np.uint8 if no_data == 255 else np.uint16)

    def write(top: int, planes: NDArray[Any]) -> None:
        whole[:, top : top + planes.shape[1]] = planes

    yield write
    for path, plane in zip(paths, whole, strict=True):
        picture = Image.fromarray(plane)
        if plane.dtype == np.uint8:
            picture.putpalette(build_palette(no_data, colors).tobytes())  # mode L becomes P
        with write_atomically(path) as part:
            picture.save(part, "png")
