"""Readers of images with masks, by the values of `data.name`."""

from __future__ import annotations

from .busi import BUSI
from .cvc import CVCClinicDB
from .glas import GlaS
from .segmentation_base import SegmentationReader
from .segmentation_folder import SegmentationFolder
from .sentinel_crops import SentinelCrops
from .synthetic_fields import SyntheticFieldsReader

__all__ = ["SEGMENTATION_READERS"]

_CLASSES: tuple[type[SegmentationReader], ...] = (
    SyntheticFieldsReader,
    BUSI,
    GlaS,
    CVCClinicDB,
    SegmentationFolder,
    SentinelCrops,
)
SEGMENTATION_READERS: dict[str, type[SegmentationReader]] = {reader.info.name: reader for reader in _CLASSES}
