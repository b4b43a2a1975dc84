"""Metric collections; the value of each is over all images of an epoch and of all processes."""

from .classification import class_probabilities, classification_metrics, wrong_where_not_finite
from .counts import foreground_planes, pixel_counts
from .distance import BorderDistance, EmptyPolicy, border_distances, hausdorff95
from .nonfinite import NonFiniteImages
from .objects import OBJECT_SCORES, ObjectScore, object_tallies
from .overlap import PROTOCOLS, SCORES, SUFFIX, OverlapScore, Protocol
from .segmentation import Objective, segmentation_metrics, slow_segmentation_metrics
from .threshold import THRESHOLDS, ThresholdSearch

__all__ = [
    "OBJECT_SCORES",
    "PROTOCOLS",
    "SCORES",
    "SUFFIX",
    "THRESHOLDS",
    "BorderDistance",
    "EmptyPolicy",
    "NonFiniteImages",
    "ObjectScore",
    "Objective",
    "OverlapScore",
    "Protocol",
    "ThresholdSearch",
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
