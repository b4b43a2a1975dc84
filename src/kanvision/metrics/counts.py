"""Counts of pixels by class: true positives, false positives and false negatives.

B batch, K foreground classes, H W space.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["foreground_planes", "pixel_counts"]


def pixel_counts(preds: Tensor, target: Tensor, num_classes: int, ignore_index: int | None = None) -> Tensor:
    """Count true positives, false positives and false negatives of each image and foreground class.

    Args:
        preds: Predicted classes (B, H, W), from -1 (no class, always wrong) to num_classes - 1, with class 0
            as background; or a plane of 0 and 1 for each class, (B, K, H, W).
        target: Target classes, in the same form.
        num_classes: Number of classes of maps (B, H, W), background included; K for planes.
        ignore_index: Label of pixels that are not counted; None to count all pixels.

    Returns:
        Counts, int64 (3, B, K).
    """
    size = len(target)
    valid = None if ignore_index is None else target != ignore_index
    if target.ndim == 4:
        p, t = preds.flatten(2) > 0, target.flatten(2) > 0  # (B, K, H*W)
        if valid is not None:
            p, t = p & valid.flatten(2), t & valid.flatten(2)
        hits = (p & t).sum(dim=2)
        return torch.stack([hits, p.sum(dim=2) - hits, t.sum(dim=2) - hits])
    columns = num_classes + 1
    image = torch.arange(size, device=target.device)[:, None]
    cell = (image * num_classes + target.flatten(1)) * columns + preds.flatten(1) + 1  # (B, H*W)
    cell = cell.flatten() if valid is None else cell[valid.flatten(1)]
    table = torch.bincount(cell, minlength=size * num_classes * columns)
    table = table.reshape(size, num_classes, columns)  # (B, right class, none or predicted class)
    hits = table[..., 1:].diagonal(dim1=1, dim2=2)
    counts = torch.stack([hits, table[..., 1:].sum(dim=1) - hits, table.sum(dim=2) - hits])
    return counts[..., 1:]


def foreground_planes(labels: Tensor, num_classes: int, valid: Tensor | None = None) -> Tensor:
    """Return one mask for each foreground class, bool (B, K, H, W).

    Args:
        labels: Classes (B, H, W) or planes (B, K, H, W), see `pixel_counts`.
        num_classes: Number of classes, see `pixel_counts`.
        valid: Valid pixels, in the form of `labels`; all others belong to no class. None if all are valid.
    """
    if labels.ndim == 4:
        planes = labels > 0
    else:
        planes = labels[:, None] == torch.arange(1, num_classes, device=labels.device)[:, None, None]
        valid = None if valid is None else valid[:, None]
    return planes if valid is None else planes & valid
