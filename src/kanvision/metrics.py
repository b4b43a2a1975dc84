"""Metric collections; every value is a fraction over all images of an epoch and of all processes."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError

__all__ = [
    "OverlapScore",
    "class_probabilities",
    "classification_metrics",
    "segmentation_metrics",
    "wrong_where_not_finite",
]

ECE_BINS = 15
POINT = 2**30
"""Scores of single images are added up in units of 1 / POINT."""


def classification_metrics(num_classes: int) -> MetricCollection:
    """Accuracy and calibration of class probabilities (B, num_classes) against classes (B,).

    acc1, acc5: share of images whose class is the most probable, or among the five most probable, one. acc5
    is left out for five or fewer classes, where it is 1 whatever the model does.
    ece: expected calibration error, sum_b n_b / n * |accuracy_b - confidence_b| over 15 equal bins of the
    confidence (Guo et al. 2017, arXiv 1706.04599).

    Raises:
        ValueError: If there are fewer than two classes.
    """
    if num_classes < 2:
        raise ValueError(f"model.num_classes={num_classes}: classification needs at least 2")
    metrics = {"acc1": MulticlassAccuracy(num_classes, average="micro")}
    if num_classes > 5:
        metrics["acc5"] = MulticlassAccuracy(num_classes, top_k=5, average="micro")
    # No two of them share a state, so none is searched for.
    return MetricCollection(
        {**metrics, "ece": MulticlassCalibrationError(num_classes, n_bins=ECE_BINS)}, compute_groups=False
    )


def class_probabilities(logits: Tensor) -> Tensor:
    """Softmax over classes in at least fp32; (B, num_classes, ...) -> (B, num_classes, ...)."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(dim=1)


def wrong_where_not_finite(probabilities: Tensor, target: Tensor) -> Tensor:
    """Replace rows with NaN by a uniform distribution over all classes but the right one.

    A sort puts NaN first, so that a network that gives nothing but NaN would count as one that always says
    class 0, and look like one that guesses.

    Args:
        probabilities: (B, num_classes).
        target: Right classes (B,).

    Returns:
        (B, num_classes), finite.
    """
    num_classes = probabilities.shape[-1]
    others = torch.full_like(probabilities, 1 / (num_classes - 1)).scatter(1, target[:, None], 0.0)
    return torch.where(probabilities.isfinite().all(dim=-1, keepdim=True), probabilities, others)


def segmentation_metrics(num_classes: int) -> MetricCollection:
    """Overlap of predicted class maps (B, H, W) with masks (B, H, W), class 0 being background.

    iou, f1: protocol `image`, the mean over images of each image's score.
    iou_dataset, f1_dataset: protocol `dataset`, the score of all pixels of the set taken together.

    Raises:
        ValueError: If there are fewer than two classes.
    """
    metrics: dict[str, Metric | MetricCollection] = {
        "iou": OverlapScore(num_classes, "iou", "image"),
        "f1": OverlapScore(num_classes, "f1", "image"),
        "iou_dataset": OverlapScore(num_classes, "iou", "dataset"),
        "f1_dataset": OverlapScore(num_classes, "f1", "dataset"),
    }
    # Compute groups would merge iou and f1 for good whenever both are 0 or 1 in the first batch.
    return MetricCollection(metrics, compute_groups=False)


class OverlapScore(Metric):
    """Intersection over union or F1 (Dice) of the foreground classes, under a named protocol.

    With true positives, false positives and false negatives of a class, counted in pixels:
    iou = TP / (TP + FP + FN) and f1 = 2 TP / (2 TP + FP + FN).

    image: the score of each image and class, then the mean over classes, then the mean over images.

    dataset: the counts of all images together, then the mean over classes.

    A class that neither masks nor predictions have is left out of the mean over classes; where that leaves
    none, the score is 1: nothing was to be found and nothing was found. Background is never scored.

    All sums are whole numbers, so the value depends neither on the order of the images nor on how they are
    spread over batches and processes.

    Args:
        num_classes: Number of classes, background (class 0) included.
        score: What is computed of the counts.
        protocol: How images are taken together.
        **kwargs: Arguments of `torchmetrics.Metric`.

    Raises:
        ValueError: If there are fewer than two classes.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True
    total: Tensor
    num_images: Tensor
    counts: Tensor

    def __init__(
        self,
        num_classes: int,
        score: Literal["iou", "f1"] = "iou",
        protocol: Literal["image", "dataset"] = "image",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if num_classes < 2:
            raise ValueError(
                f"model.num_classes={num_classes}: segmentation needs at least 2, background included"
            )
        self.num_classes = num_classes
        self.score = score
        self.protocol = protocol
        if protocol == "image":
            self.add_state("total", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
            self.add_state("num_images", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        else:
            empty = torch.zeros(3, num_classes - 1, dtype=torch.int64)
            self.add_state("counts", empty, dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add images.

        Args:
            preds: Predicted classes (B, H, W), int64; -1 is no class at all and always wrong.
            target: Masks (B, H, W), int64.
        """
        counts = pixel_counts(preds, target, self.num_classes)[..., 1:]  # (3, B, num_classes - 1)
        if self.protocol == "image":
            self.total += (self._score(counts) * POINT).round().to(torch.int64).sum()
            self.num_images += len(target)
        else:
            self.counts += counts.sum(dim=1)

    def compute(self) -> Tensor:
        """The score of all images so far, a fraction."""
        if self.protocol == "image":
            return self.total / (self.num_images * POINT)
        return self._score(self.counts)

    def _score(self, counts: Tensor) -> Tensor:
        """Mean over the classes that occur, from counts (3, ..., classes) to (...)."""
        hits, false_alarms, misses = counts
        hits = hits * 2 if self.score == "f1" else hits
        union = hits + false_alarms + misses
        occurs = union > 0
        mean = (hits / union.clamp(min=1)).sum(dim=-1) / occurs.sum(dim=-1).clamp(min=1)
        return torch.where(occurs.any(dim=-1), mean, 1.0)


def pixel_counts(preds: Tensor, target: Tensor, num_classes: int) -> Tensor:
    """True positives, false positives and false negatives of each image and class.

    Args:
        preds: Predicted classes (B, H, W), from -1 (none) to num_classes - 1.
        target: Right classes (B, H, W), from 0 to num_classes - 1.
        num_classes: Number of classes.

    Returns:
        (3, B, num_classes), int64.
    """
    size, columns = len(target), num_classes + 1
    image = torch.arange(size, device=target.device)[:, None]
    cell = (image * num_classes + target.flatten(1)) * columns + preds.flatten(1) + 1  # (B, H*W)
    table = torch.bincount(cell.flatten(), minlength=size * num_classes * columns)
    table = table.reshape(size, num_classes, columns)  # (B, right class, none or predicted class)
    hits = table[..., 1:].diagonal(dim1=1, dim2=2)
    return torch.stack([hits, table[..., 1:].sum(dim=1) - hits, table.sum(dim=2) - hits])
