"""Files beside a TIFF file: a mask (.msk), a world file (.tfw) and metadata (.aux.xml).

GDAL opens them with any contents, and follows addresses in them. Here a mask must be a TIFF file and a world
file six numbers, and metadata that change the prediction are refused.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from kanvision.data.files.gdal import is_georeferenced
from kanvision.data.files.pixels import FileError, name_file_in_errors, open_geotiff

__all__ = ["check_metadata_file", "open_mask", "read_world_file"]

WORLD_FILES = (".tfw", ".TFW", ".tifw", ".tiffw", ".wld", ".WLD")
GEOREFERENCE = re.compile(r"<(SRS|GeoTransform|GCPList)\b")
NO_DATA = re.compile(r"<(NoDataValue)\b")


def open_mask(path: Path, file: Any) -> Any | None:
    """Return the open mask beside an open file; None if there is none, or the file has its own.

    Raises:
        FileError: If the mask is not a TIFF file, or has another size.
    """
    mask_path = path.with_name(path.name + ".msk")
    flags = {flag.name for flags in file.mask_flag_enums for flag in flags}
    if not mask_path.is_file() or ("per_dataset" in flags and "alpha" not in flags):
        return None
    with name_file_in_errors(mask_path):
        mask = open_geotiff(mask_path)
    if mask.shape != file.shape or mask.count not in (1, file.count):
        wrong = f"{mask.count} x {mask.height} x {mask.width}"
        mask.close()
        right = f"{path.name} has {file.count} x {file.height} x {file.width} (bands, rows, columns)"
        raise FileError(f"{mask_path}: is a mask of {wrong}, but {right}; replace it or delete it")
    return mask


def read_world_file(path: Path, file: Any) -> dict[str, Any]:
    """Return the georeference of a world file as arguments of rasterio, for a file without its own.

    Raises:
        FileError: If the world file does not hold six numbers.
    """
    import affine

    paths = (path.with_suffix(suffix) for suffix in WORLD_FILES)
    world_file = next((candidate for candidate in paths if candidate.is_file()), None)
    if world_file is None or is_georeferenced(file):
        return {}
    try:
        return {"crs": None, "transform": affine.loadsw(world_file.read_text("utf-8"))}
    except (ValueError, TypeError, OSError) as error:
        raise FileError(
            f"{world_file}: is not a world file of six numbers; replace it or delete it"
        ) from error


def check_metadata_file(path: Path, file: Any) -> None:
    """Check that the metadata file beside a file has no facts that the file itself lacks.

    Raises:
        FileError: If it has such facts.
    """
    metadata = path.with_name(path.name + ".aux.xml")
    if not metadata.is_file():
        return
    text = metadata.read_text("utf-8", errors="replace")
    found = [] if is_georeferenced(file) else GEOREFERENCE.findall(text)
    found += [] if file.nodata is not None else NO_DATA.findall(text)
    if found:
        facts = ", ".join(dict.fromkeys(found))
        raise FileError(
            f"{metadata}: holds {facts}, which {path.name} lacks and only the image file itself may hold; "
            f"write it into a new file (gdal_translate {path.name} new.tif), or delete this file"
        )
