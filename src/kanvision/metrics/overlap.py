"""Overlap of predicted and target masks under a named protocol.

B batch, K foreground classes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from kanvision.spec.tasks import Protocol, Score

__all__ = ["OverlapScore"]

POINT = 2**30
"""Number of units of a score of 1; scores of images are summed as integers of these units."""
SMOOTH = 1e-5
"""Added to numerator and denominator by protocol `paper`."""


class OverlapScore(Metric):
    """Intersection over union, F1 (Dice), precision or recall of the foreground, under a named protocol.

    With true positives, false positives and false negatives of a class, counted in pixels:
    iou = TP / (TP + FP + FN), f1 = 2 TP / (2 TP + FP + FN), precision = TP / (TP + FP) and
    recall = TP / (TP + FN).

    image: score of each image and class, then the mean over classes, then the mean over images.

    dataset: score of the counts summed over all images, then the mean over classes.

    paper: score of the counts summed over all images and classes of a batch, with 1e-5 added to numerator and
    denominator and f1 = 2 iou / (1 + iou), then the mean over batches, weighted by their number of images
    (U-KAN, arXiv 2406.02918, and others). The value depends on the batches and on the number of processes, so
    it is comparable with such published numbers only. f1 <= 2 iou / (1 + iou) holds.

    A class that is neither in masks nor in predictions is left out of the mean over classes; without any
    class, the score is 1. A precision without predictions and a recall without masks are 0 if the other one
    is not empty. Background is not scored. The score of a single class leaves out images without this class,
    and is NaN if there are no other images.

    All sums are integers, so the value does not depend on the order of the images nor, except for `paper`, on
    their distribution over batches and processes.

    Args:
        num_foreground: Number of foreground classes, K.
        score: Name of the score.
        protocol: Name of the protocol.
        label: Foreground class to score, counted from 0; None for all.
        **kwargs: Arguments of `torchmetrics.Metric`.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True
    total: Tensor
    num_images: Tensor
    sums: Tensor

    def __init__(
        self,
        num_foreground: int,
        score: Score = "iou",
        protocol: Protocol = "image",
        label: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.score = score
        self.protocol = protocol
        self.label = label
        if protocol == "dataset":
            empty = torch.zeros(3, num_foreground, dtype=torch.int64)
            self.add_state("sums", empty, dist_reduce_fx="sum")
        else:
            self.add_state("total", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
            self.add_state("num_images", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, counts: Tensor) -> None:
        """Add the images of a batch.

        Args:
            counts: Counts, (3, B, K), see `pixel_counts`.
        """
        if self.protocol == "dataset":
            self.sums += counts.sum(dim=1)
            return
        counts = self._chosen(counts)
        if self.protocol == "paper":
            images = torch.tensor(counts.shape[1], device=counts.device)
            total = _in_points(self._pooled(counts.sum(dim=(1, 2)))) * images
        else:
            scores = _in_points(self._mean(counts))  # (B,)
            occurs = torch.ones_like(scores, dtype=torch.bool)
            if self.label is not None:
                occurs = counts.sum(dim=0).any(dim=-1)
            total, images = (scores * occurs).sum(), occurs.sum()
        self.total += total
        self.num_images += images

    def score_images(self, counts: Tensor) -> Tensor:
        """Return the score of each image (B,), the mean over its classes, for counts (3, B, K)."""
        return self._mean(self._chosen(counts))

    def compute(self) -> Tensor:
        """Return the score of all images, from 0 to 1."""
        if self.protocol == "dataset":
            sums = self._chosen(self.sums)
            score = self._mean(sums)
            return score if self.label is None or sums.any() else score * torch.nan
        return self.total / (self.num_images * POINT)

    def _chosen(self, counts: Tensor) -> Tensor:
        return counts if self.label is None else counts[..., self.label : self.label + 1]

    def _fraction(self, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return numerator and denominator of the score of counts (3, ...)."""
        hits, false_alarms, misses = counts
        if self.score == "f1":
            return 2 * hits, 2 * hits + false_alarms + misses
        return hits, {
            "iou": hits + false_alarms + misses,
            "precision": hits + false_alarms,
            "recall": hits + misses,
        }[self.score]

    def _mean(self, counts: Tensor) -> Tensor:
        """Return the mean score over classes that occur, for counts (3, ..., K), as (...)."""
        above, below = self._fraction(counts)
        occurs = counts.sum(dim=0) > 0
        mean = (above / below.clamp(min=1)).sum(dim=-1) / occurs.sum(dim=-1).clamp(min=1)
        return torch.where(occurs.any(dim=-1), mean, 1.0)

    def _pooled(self, counts: Tensor) -> Tensor:
        """Return the score of one batch under `paper`, a scalar, for counts (3,)."""
        if self.score == "f1":
            hits, false_alarms, misses = counts
            iou: Tensor = (hits + SMOOTH) / (hits + false_alarms + misses + SMOOTH)
            return 2 * iou / (1 + iou)
        above, below = self._fraction(counts)
        score: Tensor = (above + SMOOTH) / (below + SMOOTH)
        return score


def _in_points(score: Tensor) -> Tensor:
    return (score * POINT).round().to(torch.int64)
