"""Training losses by name; where timm, torch or segmentation-models-pytorch has one, it is theirs."""

from .classification import CLASSIFICATION_LOSSES, classification_loss
from .segmentation import SEGMENTATION_LOSSES, SegmentationLoss, segmentation_loss

__all__ = [
    "CLASSIFICATION_LOSSES",
    "SEGMENTATION_LOSSES",
    "SegmentationLoss",
    "classification_loss",
    "segmentation_loss",
]
