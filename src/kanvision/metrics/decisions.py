"""Probabilities of logits, and the masks that they decide.

B batch, K classes or foreground classes, H W space.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kanvision.spec.tasks import MaskMode

__all__ = ["class_probabilities", "decide_masks", "foreground_probabilities", "mask_probabilities"]


def class_probabilities(logits: Tensor) -> Tensor:
    """Return the softmax over classes in at least fp32, (B, num_classes, ...)."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(dim=1)


def mask_probabilities(logits: Tensor, mode: MaskMode) -> Tensor:
    """Return probabilities (B, num_classes, H, W), in at least fp32; exclusive classes sum to 1."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    is_independent = mode == "multilabel" or logits.shape[1] == 1
    return logits.sigmoid() if is_independent else logits.softmax(dim=1)


def foreground_probabilities(probabilities: Tensor, mode: MaskMode) -> Tensor:
    """Return the probabilities of the foreground alone for binary masks, and all of them for others."""
    return probabilities[:, -1:] if mode == "binary" else probabilities


def decide_masks(probabilities: Tensor, mode: MaskMode, thresholds: Sequence[float]) -> Tensor:
    """Return the masks of probabilities.

    Args:
        probabilities: See `mask_probabilities`.
        mode: Kind of masks.
        thresholds: Threshold of each foreground class, (K,); not used for multiclass masks.

    Returns:
        Masks, (B, H, W) or for multilabel masks (B, K, H, W), int64. Pixels whose probabilities are not
        finite are -1 in multiclass masks, and background in binary and multilabel masks.
    """
    if mode == "multiclass":
        # argmax returns the index of a NaN, which must not count as a prediction of that class
        return probabilities.argmax(dim=1).where(probabilities.isfinite().all(dim=1), -1)
    foreground = foreground_probabilities(probabilities, mode)
    planes = (foreground > foreground.new_tensor(thresholds)[:, None, None]).long()  # (B, K, H, W)
    return planes[:, 0] if mode == "binary" else planes
