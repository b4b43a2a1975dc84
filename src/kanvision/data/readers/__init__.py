"""Readers: one file a family of layouts on disk. Nothing here knows the trainer.

`READERS` (classification) and `SEGMENTATION_READERS` map the names that `data.name` takes to readers.
"""

from __future__ import annotations

from kanvision.data.files.images import ArraySource, EncodedSource, FileSource, ImageSource
from kanvision.data.shards.source import ShardSource

from .base import DatasetInfo, Reader, Splits
from .busi import BUSI
from .cifar import CIFAR10, CIFAR100
from .cvc import CVCClinicDB
from .digits import Digits
from .flowers102 import Flowers102
from .glas import GlaS
from .image_folder import ImageFolder
from .imagenet import ImageNet
from .mnist import MNIST, FashionMNIST
from .segmentation_base import MaskedSource, SegmentationReader, SegmentationSample, SegmentationSplits
from .segmentation_folder import SegmentationFolder
from .sentinel_crops import SentinelCrops
from .stl10 import STL10
from .svhn import SVHN
from .synthetic_fields import SyntheticFields, SyntheticFieldsReader
from .tiny_imagenet import TinyImageNet
from .webdataset import WebDataset

__all__ = [
    "READERS",
    "SEGMENTATION_READERS",
    "ArraySource",
    "DatasetInfo",
    "EncodedSource",
    "FileSource",
    "ImageSource",
    "MaskedSource",
    "Reader",
    "SegmentationReader",
    "SegmentationSample",
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
    WebDataset,
)
READERS: dict[str, type[Reader]] = {reader.info.name: reader for reader in _CLASSES}
_WITH_MASKS: tuple[type[SegmentationReader], ...] = (
    SyntheticFieldsReader,
    BUSI,
    GlaS,
    CVCClinicDB,
    SegmentationFolder,
    SentinelCrops,
)
SEGMENTATION_READERS: dict[str, type[SegmentationReader]] = {
    reader.info.name: reader for reader in _WITH_MASKS
}


def list_datasets() -> list[str]:
    """Names that `data.name` takes, sorted."""
    return sorted([*READERS, *SEGMENTATION_READERS])
