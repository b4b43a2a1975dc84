"""Files beside a TIFF file that say more about it: a mask (.msk), a place (.tfw), a table (.aux.xml).

GDAL opens them whatever they hold, and follows the addresses in them. Here a mask is a TIFF file, a place six
numbers, and a table with facts that count is refused.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from kanvision.data.files.gdal import is_georeferenced
from kanvision.data.files.pixels import FileError, naming, open_geotiff

__all__ = ["check_table", "open_mask", "read_world_file"]

WORLD_FILE_SUFFIXES = (".tfw", ".TFW", ".tifw", ".tiffw", ".wld", ".WLD")
GEOREFERENCE = re.compile(r"<(SRS|GeoTransform|GCPList)\b")
NO_DATA = re.compile(r"<(NoDataValue)\b")


def open_mask(path: Path, file: Any) -> Any | None:
    """Return the open mask beside an open file; None if there is none, or the file has its own.

    Raises:
        FileError: If the mask is no TIFF file, or has another size.
    """
    mask_path = path.with_name(path.name + ".msk")
    flags = {flag.name for flags in file.mask_flag_enums for flag in flags}
    if not mask_path.is_file() or ("per_dataset" in flags and "alpha" not in flags):
        return None
    with naming(mask_path):
        mask = open_geotiff(mask_path)
    if mask.shape != file.shape or mask.count not in (1, file.count):
        wrong = f"{mask.count} x {mask.height} x {mask.width}"
        mask.close()
        right = f"{path.name} has {file.count} x {file.height} x {file.width} (bands, rows, columns)"
        raise FileError(f"{mask_path}: is a mask of {wrong}, but {right}; replace it or delete it")
    return mask


def read_world_file(path: Path, file: Any) -> dict[str, Any]:
    """Return the transform that a world file gives to a file that has none; else nothing.

    Raises:
        FileError: If the world file does not hold six numbers.
    """
    import affine

    candidates = (path.with_suffix(suffix) for suffix in WORLD_FILE_SUFFIXES)
    world_file = next((world_file for world_file in candidates if world_file.is_file()), None)
    if world_file is None or is_georeferenced(file):
        return {}
    try:
        return {"crs": None, "transform": affine.loadsw(world_file.read_text("utf-8"))}
    except (ValueError, TypeError, OSError) as error:
        raise FileError(f"{world_file}: is no world file of six numbers; replace it or delete it") from error


def check_table(path: Path, file: Any) -> None:
    """Refuse facts about a file that stand only in the table beside it.

    Raises:
        FileError: There are some.
    """
    table = path.with_name(path.name + ".aux.xml")
    if not table.is_file():
        return
    text = table.read_text("utf-8", errors="replace")
    found = [] if is_georeferenced(file) else GEOREFERENCE.findall(text)
    found += [] if file.nodata is not None else NO_DATA.findall(text)
    if found:
        facts = ", ".join(dict.fromkeys(found))
        raise FileError(
            f"{table}: holds {facts}, which {path.name} lacks and only the image file itself may say; "
            f"write it into a new file (gdal_translate {path.name} new.tif), or delete the table"
        )
