"""Losses of classification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.loss import BinaryCrossEntropy, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch import Tensor, nn

from kanvision.plugins import LOSSES
from kanvision.spec.tasks import CLASSIFICATION_LOSSES

__all__ = ["CLASSIFICATION_LOSSES", "WeightedCrossEntropy", "balanced_weights", "classification_loss"]


def classification_loss(
    name: str,
    *,
    label_smoothing: float = 0.0,
    soft_targets: bool = False,
    class_weights: Sequence[float] | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Build a loss of logits (B, num_classes) and targets: classes (B,) or class weights (B, num_classes).

    cross_entropy: -sum_c q_c log softmax(z)_c, mean over the batch.
    bce: binary cross-entropy of sigmoid(z_c) against q_c, mean over batch and classes (Wightman et al. 2021,
    arXiv 2110.00476).
    With class weights w, cross_entropy is -sum_c w_c q_c log softmax(z)_c, summed over the batch and divided
    by the sum of the weights of its targets (B,), as torch does, or of targets (B, num_classes) by B.
    Smoothing makes q = (1 - s) * onehot + s / num_classes (Szegedy et al. 2016, arXiv 1512.00567).

    Args:
        name: One of `CLASSIFICATION_LOSSES`, or a loss of a plugin.
        label_smoothing: Share of the target spread over all classes, s.
        soft_targets: Targets are class weights, which mixup has smoothed already.
        class_weights: Weight of each class, for cross_entropy; None: 1.
        kwargs: Arguments of a loss of a plugin.

    Raises:
        ValueError: The name is unknown, or the loss has no weights of classes.
    """
    if name in LOSSES:
        own: nn.Module = LOSSES[name].build(**(kwargs or {}))
        return own
    if name not in CLASSIFICATION_LOSSES:
        legal = ", ".join(CLASSIFICATION_LOSSES)
        raise ValueError(f"loss.name={name!r} is no loss for classification; legal: {legal}")
    loss: nn.Module
    if class_weights is not None:
        if name != "cross_entropy":
            raise ValueError(f"loss.class_weights: loss.name={name!r} has no weights of classes")
        return WeightedCrossEntropy(class_weights, 0.0 if soft_targets else label_smoothing)
    if name == "bce":
        loss = BinaryCrossEntropy(smoothing=label_smoothing)
    elif soft_targets:
        loss = SoftTargetCrossEntropy()  # type: ignore[no-untyped-call]
    elif label_smoothing:
        loss = LabelSmoothingCrossEntropy(label_smoothing)  # type: ignore[no-untyped-call]
    else:
        loss = nn.CrossEntropyLoss()
    return loss


class WeightedCrossEntropy(nn.Module):
    """Cross-entropy with a weight for each class, which is no part of checkpoints.

    Args:
        class_weights: Weights, (num_classes,).
        label_smoothing: Share of the target spread over all classes.
    """

    weight: Tensor

    def __init__(self, class_weights: Sequence[float], label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.register_buffer(
            "weight", torch.tensor(list(class_weights), dtype=torch.float32), persistent=False
        )

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of logits (B, num_classes), see `classification_loss`."""
        weight, smoothing = self.weight.to(logits.dtype), self.label_smoothing
        total: Tensor = F.cross_entropy(logits, target, weight, reduction="sum", label_smoothing=smoothing)
        if target.is_floating_point():
            return total / len(target)
        # A batch of classes without weight has the loss 0 and not 0 / 0.
        return total / weight[target].sum().clamp_min(torch.finfo(weight.dtype).tiny)


def balanced_weights(targets: Sequence[int], num_classes: int) -> list[float]:
    """Return n / (C n_c) for each class, whose mean over the images is 1; 0 for classes without images."""
    counts = torch.bincount(torch.as_tensor(targets), minlength=num_classes).tolist()
    present = sum(count > 0 for count in counts)
    return [len(targets) / (present * count) if count else 0.0 for count in counts]
