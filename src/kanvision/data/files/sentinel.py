"""Files of the South Africa Crop Type data set, in both layouts in which it was published."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from kanvision.spec.data import Sensor

from .folders import list_subfolders
from .mask_pixels import read_label_values
from .pixels import FileError, read_pixels
from .walk import natural_key

__all__ = ["SENSORS", "Area", "compute_cloud_iou", "find_areas", "list_band_files"]

SENSORS: Final[dict[Sensor, tuple[str, ...]]] = {
    "s2": ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"),
    "s1": ("VV", "VH"),
}
"""Bands of each sensor, in the order of the published models."""
CLOUDS: Final = "CLM"

DAY = re.compile(r"(\d{4})[_-]?(\d{2})[_-]?(\d{2})")
BAND = re.compile(r"(?:.+_)?(?P<band>B\d\d|B8A|VV|VH|CLM)(?:_10m)?\.(?:tiff?|npy)", re.IGNORECASE)
OLD_IMAGE = re.compile(r".*_source_(?P<sensor>s[12])_(?P<area>\d+)_(?P<day>\d{4}[_-]?\d{2}[_-]?\d{2})")
OLD_LABEL = re.compile(r".*_labels_(?P<area>\d+)")


@dataclass(frozen=True)
class Area:
    """Area of the data set, and the days on which satellites imaged it.

    Attributes:
        name: Number of the area.
        label: Label file of the crops.
        days: Date (YYYY_MM_DD) and folder of the bands of each day, in the order of time.
    """

    name: str
    label: Path
    days: tuple[tuple[str, Path], ...]

    @property
    def dates(self) -> list[str]:
        """Dates of all days."""
        return [day for day, _ in self.days]

    def select_days(self, dates: Iterable[str]) -> Area:
        """Return the area with the days of given dates only."""
        chosen = set(dates)
        return replace(self, days=tuple(day for day in self.days if day[0] in chosen))


def find_areas(root: Path, sensor: str) -> tuple[list[Area], list[str]]:
    """Return all areas in the order of their numbers, and the problems with the folders.

    Args:
        root: Folder of the data set, or the folder around it.
        sensor: s1 or s2.
    """
    days: dict[str, list[tuple[str, Path]]] = {}
    labels: dict[str, Path] = {}
    problems: list[str] = []
    for base in _data_folders(root, problems):
        imagery = base / "imagery" / sensor
        if imagery.is_dir():
            for area in list_subfolders(imagery):
                found = [(_date(day), imagery / area / day) for day in list_subfolders(imagery / area)]
                problems += [f"{folder}: is not named by a date" for day, folder in found if day is None]
                days.setdefault(area, []).extend((day, folder) for day, folder in found if day is not None)
        if (base / "labels").is_dir():
            labels |= {path.stem: path for path in (base / "labels").glob("*.tif") if path.stem.isdecimal()}
        for name in list_subfolders(base):
            if (image := OLD_IMAGE.fullmatch(name)) and image["sensor"] == sensor:
                days.setdefault(image["area"], []).append((_date(image["day"]) or "", base / name))
            elif label := OLD_LABEL.fullmatch(name):
                labels[label["area"]] = base / name / "labels.tif"
    areas = []
    for name in sorted(days, key=natural_key):
        if name not in labels or not labels[name].is_file():
            where = labels.get(name, root / "labels" / f"{name}.tif")
            problems.append(f"{where}: is missing, though there are images of area {name}")
        elif days[name]:
            areas.append(Area(name, labels[name], tuple(sorted(days[name]))))
        else:
            problems.append(f"{root}: area {name} has no day")
    return areas, problems


def _data_folders(root: Path, problems: list[str]) -> Iterator[Path]:
    """Yield the root and the folders in it that may hold the data, each once."""
    yield root
    seen = {os.path.realpath(root)}
    for name in sorted(list_subfolders(root), key=lambda name: (root / name).is_symlink()):
        if name in ("imagery", "labels") or OLD_IMAGE.fullmatch(name) or OLD_LABEL.fullmatch(name):
            continue
        for base in (root / name, root / name / "train"):
            real = os.path.realpath(base)
            if real in seen:
                problems.append(f"{base}: is a link to {real}, which is read already; delete the link")
            elif base.is_dir():
                seen.add(real)
                yield base


def _date(text: str) -> str | None:
    match = DAY.fullmatch(text)
    return None if match is None else "_".join(match.groups())


def list_band_files(folder: Path) -> dict[str, Path]:
    """Return the file of each band in the folder of a day."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise FileError(f"{folder}: cannot be listed ({error.strerror})") from error
    matches = ((name, BAND.fullmatch(name)) for name in names)
    return {match["band"].upper(): folder / name for name, match in matches if match}


def compute_cloud_iou(area: Area, folder: Path) -> float | None:
    """Return the intersection over union of clouds and fields on a day; None without a cloud mask.

    Clouds are all values but 0 in masks of whole numbers, and 0.5 or more in masks of fractions.

    Raises:
        FileError: If a file cannot be read, or the masks differ in size.
    """
    path = list_band_files(folder).get(CLOUDS)
    if path is None:
        return None
    values = read_pixels(path)[0]
    clouds = values >= 0.5 if values.dtype.kind == "f" else values != 0
    fields = read_label_values(area.label) > 0
    if clouds.shape != fields.shape:
        raise FileError(f"{path}: has shape {clouds.shape}, but {area.label.name} has {fields.shape}")
    union = np.count_nonzero(clouds | fields)
    return np.count_nonzero(clouds & fields) / union if union else 0.0
