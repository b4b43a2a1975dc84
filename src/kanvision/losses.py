"""Training losses, chosen by name; the formulas are timm's, torch's and segmentation-models-pytorch's."""

from __future__ import annotations

import torch
from timm.loss import BinaryCrossEntropy, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch import Tensor, nn

__all__ = ["CLASSIFICATION_LOSSES", "SEGMENTATION_LOSSES", "classification_loss", "segmentation_loss"]

CLASSIFICATION_LOSSES = ("cross_entropy", "bce")
SEGMENTATION_LOSSES = ("cross_entropy", "dice", "bce_dice")


def classification_loss(name: str, *, label_smoothing: float = 0.0, soft_targets: bool = False) -> nn.Module:
    """Loss of logits (B, num_classes) against classes (B,), or against class weights (B, num_classes).

    cross_entropy: -sum_c q_c log softmax(z)_c, mean over the batch.
    bce: binary cross-entropy of sigmoid(z_c) against q_c, mean over batch and classes (Wightman et al. 2021,
    arXiv 2110.00476).
    Smoothing makes q = (1 - s) * onehot + s / num_classes (Szegedy et al. 2016, arXiv 1512.00567).

    Args:
        name: One of `CLASSIFICATION_LOSSES`.
        label_smoothing: s.
        soft_targets: Targets are class weights, smoothed already by whoever mixed them.

    Raises:
        ValueError: If the name is unknown.
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


class SumOfLosses(nn.Module):
    """Sum of losses of the same logits and targets."""

    def __init__(self, *losses: nn.Module) -> None:
        super().__init__()
        self.losses = nn.ModuleList(losses)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The sum, a scalar."""
        return torch.stack([loss(logits, target) for loss in self.losses]).sum()


def segmentation_loss(name: str, *, label_smoothing: float = 0.0) -> nn.Module:
    """Loss of logits (B, num_classes, H, W) against masks (B, H, W) int64.

    cross_entropy: -log softmax(z)_c of the right class c, smoothed as in `classification_loss`, mean over
    pixels.
    dice: mean over classes of 1 - 2 sum p t / (sum p + sum t), with p the softmax, t the one-hot mask and
    sums over all pixels of the batch; a class that no mask of the batch has counts as 0 (Milletari et al.
    2016, arXiv 1606.04797, as pooled by segmentation-models-pytorch).
    bce_dice: the sum of the two. With two classes the cross-entropy is the binary one of the logits'
    difference.

    Args:
        name: One of `SEGMENTATION_LOSSES`.
        label_smoothing: Share of the target spread over all classes, in the cross-entropy.

    Raises:
        ValueError: If the name is unknown, or labels are to be smoothed where there is no cross-entropy.
    """
    from segmentation_models_pytorch.losses import DiceLoss

    if name not in SEGMENTATION_LOSSES:
        legal = ", ".join(SEGMENTATION_LOSSES)
        raise ValueError(f"loss.name={name!r} is no loss for segmentation; legal: {legal}")
    if name == "dice" and label_smoothing:
        raise ValueError(f"loss.label_smoothing={label_smoothing}: loss.name=dice does not smooth; legal: 0")
    dice: nn.Module = DiceLoss(mode="multiclass")
    if name == "dice":
        return dice
    cross_entropy = nn.CrossEntropyLoss(label_smoothing=label_smoothing)
    return SumOfLosses(cross_entropy, dice) if name == "bce_dice" else cross_entropy
