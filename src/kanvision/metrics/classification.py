"""Metrics of classification."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError

__all__ = ["classification_metrics", "wrong_where_not_finite"]

ECE_BINS = 15


def classification_metrics(num_classes: int) -> MetricCollection:
    """Build metrics of class probabilities (B, num_classes) and targets (B,): accuracy and calibration.

    acc1, acc5: share of images whose target is the most probable class, or among the five most probable. acc5
    is left out for five or fewer classes, where it is always 1.
    ece: expected calibration error, sum_b n_b / n * |accuracy_b - confidence_b| over 15 equal bins of the
    confidence (Guo et al. 2017, arXiv 1706.04599).

    Raises:
        ValueError: There are fewer than two classes.
    """
    if num_classes < 2:
        raise ValueError(f"model.num_classes={num_classes}: classification needs at least 2")
    metrics = {"acc1": MulticlassAccuracy(num_classes, average="micro")}
    if num_classes > 5:
        metrics["acc5"] = MulticlassAccuracy(num_classes, top_k=5, average="micro")
    # no two metrics share a state
    return MetricCollection(
        {**metrics, "ece": MulticlassCalibrationError(num_classes, n_bins=ECE_BINS)}, compute_groups=False
    )


def wrong_where_not_finite(probabilities: Tensor, target: Tensor) -> Tensor:
    """Replace rows with NaN by a uniform distribution over all classes except the target.

    Sorting puts NaN first, so a network that returns only NaN would have the accuracy of a constant
    prediction of class 0.

    Args:
        probabilities: Probabilities, (B, num_classes).
        target: Target classes, (B,).

    Returns:
        Finite probabilities, (B, num_classes).
    """
    num_classes = probabilities.shape[-1]
    others = torch.full_like(probabilities, 1 / (num_classes - 1)).scatter(1, target[:, None], 0.0)
    return torch.where(probabilities.isfinite().all(dim=-1, keepdim=True), probabilities, others)
