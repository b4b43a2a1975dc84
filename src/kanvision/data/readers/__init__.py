"""Readers of data sets, with one file for each family of layouts on disk.

`READERS` (classification) and `SEGMENTATION_READERS` map the names that `data.name` takes to readers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kanvision.data.files.images import ArraySource, EncodedSource, FileSource, ImageSource
from kanvision.data.shards.source import ShardSource
from kanvision.lazy import load_on_demand

from .base import DatasetInfo, Reader, Splits
from .cifar import CIFAR10, CIFAR100
from .digits import Digits
from .flowers102 import Flowers102
from .image_folder import ImageFolder
from .image_table import ImageTable
from .imagenet import ImageNet
from .mnist import MNIST, FashionMNIST
from .stl10 import STL10
from .svhn import SVHN
from .tiny_imagenet import TinyImageNet
from .webdataset import WebDataset

if TYPE_CHECKING:
    from .segmentation import SEGMENTATION_READERS
    from .segmentation_base import (
        SegmentationReader,
        SegmentationSample,
        SegmentationSource,
        SegmentationSplits,
    )
    from .synthetic_fields import SyntheticFields

__all__ = [
    "READERS",
    "SEGMENTATION_READERS",
    "ArraySource",
    "DatasetInfo",
    "EncodedSource",
    "FileSource",
    "ImageSource",
    "Reader",
    "SegmentationReader",
    "SegmentationSample",
    "SegmentationSource",
    "SegmentationSplits",
    "ShardSource",
    "Splits",
    "SyntheticFields",
    "list_datasets",
]

_CLASSES: tuple[type[Reader], ...] = (
    Digits,
    MNIST,
    FashionMNIST,
    CIFAR10,
    CIFAR100,
    SVHN,
    STL10,
    Flowers102,
    TinyImageNet,
    ImageNet,
    ImageFolder,
    ImageTable,
    WebDataset,
)
READERS: dict[str, type[Reader]] = {reader.info.name: reader for reader in _CLASSES}
__getattr__ = load_on_demand(__name__)


def list_datasets() -> list[str]:
    """Return the legal values of `data.name`, sorted."""
    return sorted([*READERS, *__getattr__("SEGMENTATION_READERS")])
