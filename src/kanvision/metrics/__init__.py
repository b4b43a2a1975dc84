"""Metric collections; the value of each is over all images of an epoch and of all processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kanvision.lazy import load_on_demand

if TYPE_CHECKING:
    from .classification import classification_metrics, wrong_where_not_finite
    from .counts import foreground_planes, pixel_counts
    from .decisions import class_probabilities, decide_masks, foreground_probabilities, mask_probabilities
    from .distance import BorderDistance, border_distances, hausdorff95
    from .extra import extra_metrics
    from .nonfinite import NonFiniteImages
    from .objects import OBJECT_SCORES, ObjectScore, object_tallies
    from .overlap import OverlapScore
    from .segmentation import TrainingLoss, segmentation_metrics, slow_segmentation_metrics
    from .threshold import THRESHOLDS, ThresholdSearch

__all__ = [
    "OBJECT_SCORES",
    "THRESHOLDS",
    "BorderDistance",
    "NonFiniteImages",
    "ObjectScore",
    "OverlapScore",
    "ThresholdSearch",
    "TrainingLoss",
    "border_distances",
    "class_probabilities",
    "classification_metrics",
    "decide_masks",
    "extra_metrics",
    "foreground_planes",
    "foreground_probabilities",
    "hausdorff95",
    "mask_probabilities",
    "object_tallies",
    "pixel_counts",
    "segmentation_metrics",
    "slow_segmentation_metrics",
    "wrong_where_not_finite",
]

__getattr__ = load_on_demand(__name__)
