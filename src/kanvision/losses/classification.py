"""Losses of classification."""

from __future__ import annotations

from timm.loss import BinaryCrossEntropy, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch import nn

from kanvision.spec.tasks import CLASSIFICATION_LOSSES

__all__ = ["CLASSIFICATION_LOSSES", "classification_loss"]


def classification_loss(name: str, *, label_smoothing: float = 0.0, soft_targets: bool = False) -> nn.Module:
    """Build a loss of logits (B, num_classes) and targets: classes (B,) or class weights (B, num_classes).

    cross_entropy: -sum_c q_c log softmax(z)_c, mean over the batch.
    bce: binary cross-entropy of sigmoid(z_c) against q_c, mean over batch and classes (Wightman et al. 2021,
    arXiv 2110.00476).
    Smoothing makes q = (1 - s) * onehot + s / num_classes (Szegedy et al. 2016, arXiv 1512.00567).

    Args:
        name: One of `CLASSIFICATION_LOSSES`.
        label_smoothing: Share of the target spread over all classes, s.
        soft_targets: Targets are class weights, which mixup has smoothed already.

    Raises:
        ValueError: The name is unknown.
    """
    if name not in CLASSIFICATION_LOSSES:
        legal = ", ".join(CLASSIFICATION_LOSSES)
        raise ValueError(f"loss.name={name!r} is no loss for classification; legal: {legal}")
    loss: nn.Module
    if name == "bce":
        loss = BinaryCrossEntropy(smoothing=label_smoothing)
    elif soft_targets:
        loss = SoftTargetCrossEntropy()  # type: ignore[no-untyped-call]
    elif label_smoothing:
        loss = LabelSmoothingCrossEntropy(label_smoothing)  # type: ignore[no-untyped-call]
    else:
        loss = nn.CrossEntropyLoss()
    return loss
