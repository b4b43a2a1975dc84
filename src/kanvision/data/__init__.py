"""Data sets, their splits, transforms and loaders.

    data = build_datamodule("classification", name="digits", in_chans=1, img_size=8, mean=[0.3], std=[0.4])

Readers and datasets need no trainer; the datamodules, which do, are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kanvision import plugins
from kanvision.lazy import load_on_demand
from kanvision.spec.tasks import TaskName

from .errors import DataError
from .loading.image_dataset import ImageDataset
from .readers import READERS, list_datasets
from .readers.base import DataReader, Reader

if TYPE_CHECKING:
    from .datamodules.base import ClassificationDataModule, ImageDataModule
    from .datamodules.segmentation import SegmentationDataModule
    from .readers import SEGMENTATION_READERS

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
    "register_reader",
]

_DATAMODULES: dict[TaskName, str] = {
    "classification": "ClassificationDataModule",
    "segmentation": "SegmentationDataModule",
}
__getattr__ = load_on_demand(__name__)


def register_reader(reader: type[DataReader]) -> type[DataReader]:
    """Add a data set of a plugin under the name of its `info`; used as a decorator.

    Args:
        reader: A `Reader` of images with one class each, or a `SegmentationReader`.

    Raises:
        PluginError: The name is taken.
    """
    masks: dict[str, Any] = __getattr__("SEGMENTATION_READERS")
    plugins.add_name(reader.info.name, [*READERS, *masks])
    if issubclass(reader, Reader):
        READERS[reader.info.name] = reader
    else:
        masks[reader.info.name] = reader
    return reader


def build_datamodule(task: TaskName, **kwargs: Any) -> ImageDataModule:
    """Return the datamodule of a task.

    Args:
        task: classification or segmentation.
        kwargs: Arguments of the datamodule.

    Raises:
        ValueError: If there is no datamodule for the task.
    """
    if task not in _DATAMODULES:
        raise ValueError(f"data.task={task} has no datamodule; legal: {', '.join(_DATAMODULES)}")
    datamodule: ImageDataModule = __getattr__(_DATAMODULES[task])(**kwargs)
    return datamodule
