"""Data sets, their splits, transforms and loaders.

    data = build_datamodule("classification", name="digits", in_chans=1, img_size=8, mean=[0.3], std=[0.4])

Readers and datasets need no trainer; the datamodules, which do, are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .errors import DataError
from .loading.image_dataset import ImageDataset
from .readers import READERS, SEGMENTATION_READERS, list_datasets

if TYPE_CHECKING:
    from .datamodules.base import ClassificationDataModule, ImageDataModule
    from .datamodules.segmentation import SegmentationDataModule

__all__ = [
    "READERS",
    "SEGMENTATION_READERS",
    "ClassificationDataModule",
    "DataError",
    "ImageDataModule",
    "ImageDataset",
    "SegmentationDataModule",
    "build_datamodule",
    "list_datasets",
]

# task -> datamodule; name -> module, because whoever wants a datamodule wants Lightning
_DATAMODULES = {"classification": "ClassificationDataModule", "segmentation": "SegmentationDataModule"}
_HOME = {
    "ClassificationDataModule": ".datamodules.base",
    "ImageDataModule": ".datamodules.base",
    "SegmentationDataModule": ".datamodules.segmentation",
}


def build_datamodule(task: str, **kwargs: Any) -> ImageDataModule:
    """The datamodule of a task.

    Args:
        task: What the labels are for: classification or segmentation.
        kwargs: Arguments of the datamodule.

    Raises:
        ValueError: If there is no datamodule for the task.
    """
    if task not in _DATAMODULES:
        raise ValueError(f"data.task={task} has no datamodule; legal: {', '.join(_DATAMODULES)}")
    datamodule: ImageDataModule = __getattr__(_DATAMODULES[task])(**kwargs)
    return datamodule


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
