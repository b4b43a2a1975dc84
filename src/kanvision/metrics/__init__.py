"""Metric collections; the value of each is over all images of an epoch and of all processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kanvision.lazy import load_on_demand

from .classification import class_probabilities, classification_metrics, wrong_where_not_finite
from .nonfinite import NonFiniteImages

if TYPE_CHECKING:
    from .counts import foreground_planes, pixel_counts
    from .distance import BorderDistance, border_distances, hausdorff95
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
    "foreground_planes",
    "hausdorff95",
    "object_tallies",
    "pixel_counts",
    "segmentation_metrics",
    "slow_segmentation_metrics",
    "wrong_where_not_finite",
]

_OF_MASKS = {
    ".counts": ("foreground_planes", "pixel_counts"),
    ".distance": ("BorderDistance", "border_distances", "hausdorff95"),
    ".objects": ("OBJECT_SCORES", "ObjectScore", "object_tallies"),
    ".overlap": ("OverlapScore",),
    ".segmentation": ("TrainingLoss", "segmentation_metrics", "slow_segmentation_metrics"),
    ".threshold": ("THRESHOLDS", "ThresholdSearch"),
}
__getattr__ = load_on_demand(__name__, {name: home for home, names in _OF_MASKS.items() for name in names})
