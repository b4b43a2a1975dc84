"""Overlap of predicted and right masks, under a named protocol.

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
"""Scores of single images are added up in units of 1 / POINT."""
SMOOTH = 1e-5
"""Added to numerator and denominator by protocol `paper`."""


class OverlapScore(Metric):
    """Intersection over union, F1 (Dice), precision or recall of the foreground, under a named protocol.

    With true positives, false positives and false negatives of a class, counted in pixels:
    iou = TP / (TP + FP + FN), f1 = 2 TP / (2 TP + FP + FN), precision = TP / (TP + FP) and
    recall = TP / (TP + FN).

    image: the score of each image and class, then the mean over classes, then the mean over images.

    dataset: the counts of all images together, then the mean over classes.

    paper: the counts of all images and classes of a mini-batch together, 1e-5 added to both sides of the
    fraction, f1 = 2 iou / (1 + iou), and the mean over batches, weighted by their images. So published by
    U-KAN (arXiv 2406.02918) and others; the value depends on how images fall into batches, also on their
    number of processes, so it serves comparisons with those numbers only. f1 <= 2 iou / (1 + iou) holds.

    A class that neither masks nor predictions have is left out of the mean over classes; where that leaves
    none, the score is 1: nothing was to be found and nothing was found. A precision without any prediction
    and a recall without any mask are 0 where the other side has something. Background is never scored. The
    score of a single class leaves such images out, and is NaN where no image has the class.

    All sums are whole numbers, so the value depends neither on the order of the images nor, but for `paper`,
    on how they are spread over batches and processes.

    Args:
        num_foreground: K.
        score: What is computed of the counts.
        protocol: How images are taken together.
        label: The only foreground class that is scored, counted from 0; None: all.
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
            counts: (3, B, K), see `pixel_counts`.
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

    def compute(self) -> Tensor:
        """The score of all images so far, a fraction."""
        if self.protocol == "dataset":
            sums = self._chosen(self.sums)
            score = self._mean(sums)
            return score if self.label is None or sums.any() else score * torch.nan
        return self.total / (self.num_images * POINT)

    def _chosen(self, counts: Tensor) -> Tensor:
        return counts if self.label is None else counts[..., self.label : self.label + 1]

    def _fraction(self, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Numerator and denominator of the score, from counts (3, ...)."""
        hits, false_alarms, misses = counts
        if self.score == "f1":
            return 2 * hits, 2 * hits + false_alarms + misses
        return hits, {
            "iou": hits + false_alarms + misses,
            "precision": hits + false_alarms,
            "recall": hits + misses,
        }[self.score]

    def _mean(self, counts: Tensor) -> Tensor:
        """Mean over the classes that occur, from counts (3, ..., K) to (...)."""
        above, below = self._fraction(counts)
        occurs = counts.sum(dim=0) > 0
        mean = (above / below.clamp(min=1)).sum(dim=-1) / occurs.sum(dim=-1).clamp(min=1)
        return torch.where(occurs.any(dim=-1), mean, 1.0)

    def _pooled(self, counts: Tensor) -> Tensor:
        """The published score of one batch, from counts (3,) to ()."""
        if self.score == "f1":
            hits, false_alarms, misses = counts
            iou: Tensor = (hits + SMOOTH) / (hits + false_alarms + misses + SMOOTH)
            return 2 * iou / (1 + iou)
        above, below = self._fraction(counts)
        score: Tensor = (above + SMOOTH) / (below + SMOOTH)
        return score


def _in_points(score: Tensor) -> Tensor:
    return (score * POINT).round().to(torch.int64)
