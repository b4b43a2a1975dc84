"""Reader of South Africa Crop Type, fields of the Western Cape from Sentinel-2 or Sentinel-1.

C bands, H W space.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from kanvision.data.errors import DataError
from kanvision.data.files.mask_pixels import read_label_values
from kanvision.data.files.pillow import MAX_PIXELS, pixel_limit
from kanvision.data.files.pixels import FileError, read_pixels, scale_to_unit_range
from kanvision.data.files.sentinel import SENSORS, Area, compute_cloud_iou, find_areas, list_band_files
from kanvision.data.seeding import derive_seed
from kanvision.spec.data import EVAL_SPLITS, Sensor, SentinelMode

from .base import DatasetInfo
from .segmentation_base import SegmentationReader, SegmentationSample, SegmentationSource, SegmentationSplits

__all__ = ["CropSource", "SentinelCrops"]

CHIP: Final = 256
"""Side of a chip in pixels; larger files (270 x 270) are center-cropped."""
CLASSES: Final = (
    "none",
    "lucerne_medics",
    "planted_pasture",
    "fallow",
    "wine_grapes",
    "weeds",
    "small_grain_grazing",
    "wheat",
    "canola",
    "rooibos",
)
SHARES: Final = (("train", 2019 / 2650), ("val", 2286 / 2650), ("test", 1.0))
"""Splits with the upper ends of their ranges of the hash, which give the sizes of the published splits."""


class SentinelCrops(SegmentationReader):
    """2,650 areas of 2.56 km, imaged on 14 to 74 days of 2017 (Western Cape Department of Agriculture).

    The task is that of "KAN You See It?" (Cambrin et al. 2024, arXiv 2408.07040): fields and background, or
    all ten classes. Training draws a random day of an area each time; validation and test use its first clear
    day. A day is clear if the intersection over union of clouds and fields is below a limit, or if it has no
    cloud mask. Areas without a clear day are left out of validation and test.

    No area is in two splits, which a table defines or else a hash of the number of the area.

    Args:
        root: Folder of the data set.
        mode: binary: fields and background; multiclass: ten classes.
        sensor: s2 or s1.
        bands: Names of the bands to use, in this order; None: all.
        split_file: Table with the columns area and split, and optionally date, iou, nulls and saturated, by
            which days are chosen as published, instead of by cloud masks.
        max_clouds_train: Limit of clear days in training; None: all days are clear.
        max_clouds_eval: Limit of clear days in validation and test; None: all days are clear.
        **options: Arguments of `SegmentationReader`.
    """

    info = DatasetInfo(
        name="sentinel_crops",
        tree="<root>/                            or <root>/train/\n"
        "  imagery/s2/<area>/<YYYY_MM_DD>/<area>_<YYYY_MM_DD>_<BAND>_10m.tif    B01 ... B12 without B10\n"
        "  imagery/s1/<area>/<YYYY_MM_DD>/<area>_<YYYY_MM_DD>_<BAND>_10m.tif    VV, VH\n"
        "  labels/<area>.tif\n"
        "or as the old archives are unpacked, in <root>/ or in a folder each:\n"
        "  ref_south_africa_crops_competition_v1_train_source_s2_<area>_<YYYY_MM_DD>/B01.tif ... CLM.tif\n"
        "  ref_south_africa_crops_competition_v1_train_labels_<area>/labels.tif\n"
        "cloud masks, if any, lie beside the bands and have CLM for the band (.tif or .npy)",
        source="https://source.coop/radiantearth/south-africa-crops-competition (CC-BY-4.0)",
    )

    def __init__(
        self,
        root: str | Path | None,
        *,
        mode: SentinelMode = "binary",
        sensor: Sensor = "s2",
        bands: Sequence[str] | None = None,
        split_file: str | None = None,
        max_clouds_train: float | None = 0.3,
        max_clouds_eval: float | None = 0.1,
        **options: Any,
    ) -> None:
        super().__init__(root, **options)
        self.mode = mode
        self.sensor = sensor
        self.bands = SENSORS[sensor] if bands is None else tuple(bands)
        self.split_file = None if split_file is None else Path(split_file).expanduser()
        self.max_clouds = {"train": max_clouds_train, "val": max_clouds_eval, "test": max_clouds_eval}
        if unknown := [band for band in self.bands if band not in SENSORS[sensor]]:
            legal = ", ".join(SENSORS[sensor])
            raise ValueError(f"data.bands: {', '.join(unknown)} is not a band of {sensor}; legal: {legal}")
        if len(self.bands) != self.in_chans:
            raise ValueError(
                f"data.in_chans={self.in_chans}, but {sensor} gives {len(self.bands)} bands "
                f"({', '.join(self.bands)}); set data.in_chans={len(self.bands)}, or choose by data.bands"
            )
        if mode == "multiclass" and self.num_classes not in (None, len(CLASSES)):
            raise ValueError(
                f"data.num_classes={self.num_classes}: there are {len(CLASSES)} classes of crops"
            )

    def read(self) -> SegmentationSplits:
        """Find areas and days, choose days, and split."""
        root = self.require_root()
        areas, problems = find_areas(root, self.sensor)
        if not areas and not problems:
            problems = [f"{root}: holds no area with images of {self.sensor}"]
        parts, days = {area.name: self._hash_split(area.name) for area in areas}, None
        if self.split_file is not None and not problems:
            parts, days = self._read_split_file(self.split_file, areas, problems)
        if problems:
            raise self.error(*problems)
        chosen: dict[str, list[Area]] = {part: [] for part, _ in SHARES}
        for area in areas:
            kept = area if days is None else area.select_days(days[area.name])
            if kept.days:
                chosen[parts[area.name]].append(kept)
        if days is None:
            chosen = self._select_clear_days(chosen)
        else:
            first = {
                part: [area.select_days(area.dates[:1]) for area in chosen[part]] for part in EVAL_SPLITS
            }
            chosen |= first
        for part, found in chosen.items():
            if not found:
                problems.append(f"{root}: no area is left for {part}, of {len(areas)} areas")
            for area in found:  # areas have many days, of which only the first is checked
                problems += [f"{area.days[0][1]}: band {band} is missing" for band in self._missing(area)]
        if not problems:
            labels = [(area.label,) for found in chosen.values() for area in found]
            problems += self.count_mask_values(labels, read_label_values)[1]
        self.refuse(problems)
        # The days of a table are clear, and those of validation and test are chosen already.
        limits = {"train": self.max_clouds["train"] if days is None else None}
        sources = {part: self._source(found, limits.get(part)) for part, found in chosen.items()}
        names = CLASSES if self.mode == "multiclass" else self.list_class_names("field")
        return SegmentationSplits(names, sources["train"], sources["test"], sources["val"])

    def _hash_split(self, area: str) -> str:
        """Return the split of an area by a hash of its number."""
        fraction = derive_seed("sentinel_crops", self.split_seed, area) / 2**63
        return next(part for part, end in SHARES if fraction < end)

    def _missing(self, area: Area) -> list[str]:
        found = list_band_files(area.days[0][1])
        return [band for band in self.bands if band not in found]

    def _source(self, areas: list[Area], limit: float | None) -> CropSource:
        binary = self.mode == "binary"
        return CropSource(
            areas,
            self.bands,
            self.fail,
            binary=binary,
            max_value=self.max_value,
            max_clouds=limit,
            max_pixels=self.max_pixels,
        )

    def _select_clear_days(self, chosen: dict[str, list[Area]]) -> dict[str, list[Area]]:
        """Return all areas, those of validation and test with their first clear day or left out."""
        result, has_masks = {"train": chosen["train"]}, False
        for part in EVAL_SPLITS:
            limit, kept = self.max_clouds[part], []
            for area in chosen[part]:
                for day in area.days:
                    share = None if limit is None else self._clouds(area, day[1])
                    has_masks = has_masks or share is not None
                    if limit is None or share is None or share < limit:
                        kept.append(area.select_days([day[0]]))
                        break
            result[part] = kept
        if self.sensor == "s2" and not has_masks and self.max_clouds["test"] is not None:
            warnings.warn(
                "sentinel_crops: there are no cloud masks (CLM), so days are not chosen by clouds; "
                "data.max_clouds_train=null data.max_clouds_eval=null silences this warning",
                stacklevel=2,
            )
        return result

    def _clouds(self, area: Area, folder: Path) -> float | None:
        try:
            with pixel_limit(self.max_pixels):
                return compute_cloud_iou(area, folder)
        except FileError as problem:
            raise self.error(str(problem)) from problem

    def _read_split_file(
        self, table: Path, areas: Sequence[Area], problems: list[str]
    ) -> tuple[dict[str, str], dict[str, list[str]] | None]:
        """Return the split of each area, and its days in the table; None if the table has no days."""
        if not table.is_file():
            problems.append(f"data.split_file={table}: the file does not exist")
            return {}, None
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        if not rows or not {"area", "split"} <= rows[0].keys():
            columns = "area and split, and may have date, iou, nulls, saturated"
            problems.append(f"{table}: must have the columns {columns}")
            return {}, None
        parts = {row["area"]: row["split"] for row in rows}
        legal = [part for part, _ in SHARES]
        problems += [
            f"{table}: area {area} has split {part}; legal: {', '.join(legal)}"
            for area, part in parts.items()
            if part not in legal
        ]
        problems += [f"{table}: does not list area {area.name}" for area in areas if area.name not in parts]
        if "date" not in rows[0] or problems:
            return parts, None
        days: dict[str, list[str]] = {area.name: [] for area in areas}
        for row in rows:
            if row["area"] in days and _is_allowed(row, self.max_clouds[row["split"]]):
                days[row["area"]].append(row["date"].replace("-", "_"))
        return parts, days


def _is_allowed(row: Mapping[str, str], limit: float | None) -> bool:
    """Return True if the published rule selects a day: few clouds, and complete images outside training."""
    if limit is not None and row.get("iou") and float(row["iou"]) >= limit:
        return False
    whole = all(float(row.get(key) or 0) == 0 for key in ("nulls", "saturated"))
    return row["split"] == "train" or whole


class CropSource(SegmentationSource):
    """Source of areas, each on a random clear day.

    Args:
        areas: Areas with their days.
        bands: Names of the bands, in order.
        fail: Builds the error for files that cannot be used from a list of problems.
        binary: Every crop is class 1.
        max_value: Stored value that becomes 1; None: by the type of the file.
        max_clouds: Limit of a clear day; None: all days are clear. If no day is clear, the clearest is used.
        max_pixels: Largest number of pixels of a band; None: no limit.
    """

    def __init__(
        self,
        areas: Sequence[Area],
        bands: Sequence[str],
        fail: Callable[[list[str]], DataError],
        *,
        binary: bool,
        max_value: float | None = None,
        max_clouds: float | None = None,
        max_pixels: int | None = MAX_PIXELS,
    ) -> None:
        self.areas = tuple(areas)
        self.names = tuple(area.name for area in areas)
        self.strata = np.zeros(len(areas), dtype=np.int64)
        self.bands = tuple(bands)
        self.fail = fail
        self.binary = binary
        self.max_value = max_value
        self.max_clouds = max_clouds
        self.max_pixels = max_pixels

    def __getitem__(self, index: int) -> SegmentationSample:
        """Read the bands and labels of an area.

        Raises:
            DataError: If a file is missing or cannot be used, or sizes or types differ.
        """
        area = self.areas[index]
        try:
            with pixel_limit(self.max_pixels):
                folder = self._day(area)
                image = self._image(folder)
                labels = read_label_values(area.label)
            if labels.shape != image.shape[1:]:
                wrong, right = _size(labels), _size(image)
                raise FileError(f"{area.label}: {wrong}, but the bands in {folder} have {right}")
            if labels.max() >= len(CLASSES) or labels.min() < 0:
                label = labels[(labels >= len(CLASSES)) | (labels < 0)][0]
                raise FileError(f"{area.label}: holds label {label}; legal: 0 to {len(CLASSES) - 1}")
        except FileError as problem:
            raise self.fail([str(problem)]) from problem
        labels = _center_crop(labels > 0 if self.binary else labels).astype(np.int64)
        return {
            "image": torch.from_numpy(np.ascontiguousarray(_center_crop(image))),
            "mask": torch.from_numpy(labels),
            "index": index,
        }

    def _day(self, area: Area) -> Path:
        """Return the folder of a random clear day, drawn from torch's global generator."""
        days = [folder for _, folder in area.days]
        if len(days) == 1:
            return days[0]
        cloudy: list[tuple[float, int]] = []
        for index in map(int, torch.randperm(len(days))):
            share = None if self.max_clouds is None else compute_cloud_iou(area, days[index])
            if self.max_clouds is None or share is None or share < self.max_clouds:
                return days[index]
            cloudy.append((share, index))
        return days[min(cloudy)[1]]

    def _image(self, folder: Path) -> NDArray[np.float32]:
        """Return the bands of a day, (C, H, W) in units of [0, 1]."""
        files = list_band_files(folder)
        if missing := [band for band in self.bands if band not in files]:
            raise FileError(f"{folder}: band {missing[0]} is missing")
        planes: list[NDArray[np.float32]] = []
        for band in self.bands:
            stored = read_pixels(files[band])
            if len(stored) != 1:
                raise FileError(f"{files[band]}: has {len(stored)} bands; a file holds one")
            if planes and stored.shape != planes[0].shape:
                right = _size(planes[0])
                raise FileError(f"{files[band]}: {_size(stored)}, but band {self.bands[0]} has {right}")
            planes.append(scale_to_unit_range(stored, files[band], self.max_value, stored.dtype))
        return np.concatenate(planes)


def _center_crop(array: NDArray[Any]) -> NDArray[Any]:
    """Return the central 256 x 256 of a larger array (..., H, W)."""
    height, width = array.shape[-2:]
    top, left = max(0, (height - CHIP) // 2), max(0, (width - CHIP) // 2)
    return array[..., top : top + min(height, CHIP), left : left + min(width, CHIP)]


def _size(array: NDArray[Any]) -> str:
    return f"{array.shape[-1]} x {array.shape[-2]} pixels"
