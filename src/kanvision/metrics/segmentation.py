"""Collections of the metrics of masks by name.

K foreground classes.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torchmetrics import MeanMetric, Metric, MetricCollection

from kanvision.spec.tasks import DEFAULT_PROTOCOLS, PROTOCOL_SUFFIXES, SCORES, EmptyMaskPolicy, Protocol

from .distance import BorderDistance
from .objects import OBJECT_SCORES, ObjectScore
from .overlap import OverlapScore

__all__ = ["TrainingLoss", "segmentation_metrics", "slow_segmentation_metrics"]


class TrainingLoss(MeanMetric):
    """Mean of the training loss over images of validation or test; NaN remains NaN."""

    def __init__(self) -> None:
        super().__init__(nan_strategy=float("nan"))

    def update(self, training_loss: Tensor, weight: float = 1.0) -> None:  # type: ignore[override]
        """Add a batch of `weight` images."""
        super().update(training_loss, weight)


def segmentation_metrics(
    num_foreground: int, *, protocols: Sequence[Protocol] = DEFAULT_PROTOCOLS, per_class: bool = False
) -> MetricCollection:
    """Build the overlap scores, by the names in logs.

    The names are `iou`, `f1`, `precision` and `recall` under protocol `image`, end in `_dataset` under
    `dataset` and in `_batch` under `paper`; those of the first foreground class are `iou_class1` and so on.
    Updated with `counts`, see `pixel_counts`.

    Args:
        num_foreground: K.
        protocols: See `OverlapScore`.
        per_class: Score each class too.
    """
    metrics: dict[str, Metric | MetricCollection] = {}
    for protocol in protocols:
        for score in SCORES:
            name = score + PROTOCOL_SUFFIXES[protocol]
            metrics[name] = OverlapScore(num_foreground, score, protocol)
            for label in range(num_foreground if per_class else 0):
                metrics[f"{name}_class{label + 1}"] = OverlapScore(num_foreground, score, protocol, label)
    # Compute groups would merge iou and f1 for good whenever both are 0 or 1 in the first batch.
    return MetricCollection(metrics, compute_groups=False)


def slow_segmentation_metrics(
    *, hd95: EmptyMaskPolicy | None = None, objects: bool = False
) -> MetricCollection:
    """Build the scores that take longer than a forward pass, for the test only.

    `hd95`, and `hd95_excluded` where images can be left out, are updated with `distances` (see
    `border_distances`) and `diagonal`; `object_f1`, `object_dice` and `object_hausdorff` with `tallies` (see
    `object_tallies`).

    Args:
        hd95: Measure distances between borders, with this policy for masks of which one is empty; None: do
            not.
        objects: Score objects.
    """
    metrics: dict[str, Metric | MetricCollection] = {}
    if hd95 is not None:
        metrics["hd95"] = BorderDistance(hd95)
        if hd95 == "exclude":
            metrics["hd95_excluded"] = BorderDistance(hd95, count_excluded=True)
    if objects:
        metrics |= {name: ObjectScore(name) for name in OBJECT_SCORES}
    return MetricCollection(metrics, compute_groups=False)
