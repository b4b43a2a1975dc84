"""Training losses by name; where timm, torch or segmentation-models-pytorch has one, it is theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kanvision.lazy import load_on_demand

from .classification import CLASSIFICATION_LOSSES, classification_loss

if TYPE_CHECKING:
    from .segmentation import SEGMENTATION_LOSSES, SegmentationLoss, segmentation_loss

__all__ = [
    "CLASSIFICATION_LOSSES",
    "SEGMENTATION_LOSSES",
    "SegmentationLoss",
    "classification_loss",
    "segmentation_loss",
]

__getattr__ = load_on_demand(__name__)
