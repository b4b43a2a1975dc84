"""Losses of segmentation.

B batch, K channels of the network's output, H W space.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kanvision.plugins import LOSSES
from kanvision.spec.tasks import SEGMENTATION_LOSSES, SMOOTHED_LOSSES, Loss, MaskMode

from .overlap import generalized_dice, sample_dice

__all__ = ["SEGMENTATION_LOSSES", "SegmentationLoss", "segmentation_loss"]

SAMPLE_DICE = {"bce_dice": (0.5, 1e-5), "kagn_dice": (0.1, 1.0)}
"""Weight of the binary cross-entropy, and smoothing term of the Dice score."""


def segmentation_loss(
    name: Loss,
    *,
    mode: MaskMode = "multiclass",
    label_smoothing: float = 0.0,
    gamma: float = 2.0,
    alpha: float = 0.5,
    beta: float = 0.5,
    ignore_index: int | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Build one of the losses of `SegmentationLoss`, or of a plugin.

    Args:
        name: One of `SEGMENTATION_LOSSES`, or a loss of a plugin.
        mode: Kind of masks.
        label_smoothing: Share of the target spread over all classes, in the cross-entropy.
        gamma: Exponent of focal.
        alpha: Weight of false positives in tversky.
        beta: Weight of false negatives in tversky.
        ignore_index: Label of ignored pixels; None for no ignored pixels.
        kwargs: Arguments of a loss of a plugin.

    Raises:
        ValueError: The name is unknown or not defined for such masks, or the loss does not smooth labels.
    """
    if name in LOSSES:
        own: nn.Module = LOSSES[name].build(**(kwargs or {}))
        return own
    if name not in SEGMENTATION_LOSSES:
        legal = ", ".join(SEGMENTATION_LOSSES)
        raise ValueError(f"loss.name={name!r} is no loss for segmentation; legal: {legal}")
    if mode not in SEGMENTATION_LOSSES[name]:
        legal = ", ".join(other for other, modes in SEGMENTATION_LOSSES.items() if mode in modes)
        raise ValueError(f"loss.name={name!r} is not defined for {mode} masks; legal: {legal}")
    if label_smoothing and name not in SMOOTHED_LOSSES:
        raise ValueError(
            f"loss.label_smoothing={label_smoothing}: loss.name={name} does not smooth; legal: 0"
        )
    return SegmentationLoss(
        name,
        mode,
        label_smoothing=label_smoothing,
        gamma=gamma,
        alpha=alpha,
        beta=beta,
        ignore_index=ignore_index,
    )


class SegmentationLoss(nn.Module):
    """Loss of logits (B, K, H, W) and masks (B, H, W), or (B, K, H, W) of 0 and 1 for mode=multilabel.

    Binary masks have one logit z for each pixel, or two whose difference is z; p is the sigmoid of z.
    Multilabel masks have one such logit for each class, and p of multiclass masks is the softmax. t is 1 at
    pixels of a class, and 0 elsewhere. The sums over all pixels are computed in at least fp32.

    cross_entropy: -log p of the target class, smoothed as in `classification_loss`, mean over pixels.

    bce: -t log p - (1 - t) log(1 - p), mean over pixels and channels.

    focal: bce times (1 - q)^gamma, with q = p where t is 1 and q = 1 - p elsewhere; multiclass masks use the
    sigmoid of each logit too (Lin et al. 2017, arXiv 1708.02002).

    dice, jaccard, tversky: mean over channels of 1 - 2I / (2I + A + B), 1 - I / (I + A + B) and
    1 - I / (I + alpha A + beta B), with I = sum p t, A = sum p (1 - t), B = sum (1 - p) t over all pixels of
    the batch; a channel whose mask is empty in the whole batch counts as 0 (Milletari et al. 2016, arXiv
    1606.04797; Salehi et al. 2017, arXiv 1706.05721; as pooled by segmentation-models-pytorch).

    lovasz: convex extension of the Jaccard loss: the hinge of each image, all its channels together, or for
    multiclass masks the softmax form over the batch and the classes in it (Berman et al. 2018, arXiv
    1705.08790).

    generalized_dice: see `generalized_dice`; a binary mask has two classes there.

    ce_dice: cross_entropy + dice (Isensee et al. 2021, nnU-Net).

    bce_dice: 0.5 bce + Dice loss of each sample, smoothed by 1e-5, all channels together, mean over samples
    (as in the code of U-KAN, arXiv 2406.02918, and of UNeXt).

    kagn_dice: 0.1 bce + Dice loss of each sample and channel, smoothed by 1 (as in the code of UKAGNet, arXiv
    2407.01092).

    Args:
        name: One of `SEGMENTATION_LOSSES`.
        mode: Kind of masks.
        label_smoothing: See `segmentation_loss`.
        gamma: See `segmentation_loss`.
        alpha: See `segmentation_loss`.
        beta: See `segmentation_loss`.
        ignore_index: See `segmentation_loss`.
    """

    def __init__(
        self,
        name: Loss,
        mode: MaskMode,
        *,
        label_smoothing: float = 0.0,
        gamma: float = 2.0,
        alpha: float = 0.5,
        beta: float = 0.5,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__()
        self.name, self.mode = name, mode
        self.label_smoothing = label_smoothing
        self.ignore_index = ignore_index
        options = {"gamma": gamma, "alpha": alpha, "beta": beta}
        self.part = _library_loss(name, mode, ignore_index, options)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss, a scalar; 0 if all pixels are ignored."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if self.mode == "binary":
            if logits.shape[1] == 2:
                logits = logits[:, 1:] - logits[:, :1]
            target = target[:, None]  # both (B, 1, H, W)
        valid = None if self.ignore_index is None else target != self.ignore_index
        if valid is not None and not valid.any():
            return logits.sum() * 0
        if self.name in SAMPLE_DICE:
            return self._with_sample_dice(logits, target, valid)
        if self.name == "generalized_dice":
            return generalized_dice(*self._all_classes(logits, target, valid))
        parts = [self._cross_entropy(logits, target, valid)] if self.name in ("bce", *SMOOTHED_LOSSES) else []
        if self.part is not None:
            # the Lovasz loss of the library needs single precision
            parts.append(self.part(logits.float() if self.name == "lovasz" else logits, target))
        return torch.stack(parts).sum()

    def _cross_entropy(self, logits: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
        if self.mode != "multiclass":
            return self._binary_cross_entropy(logits, target, valid)
        ignored = -100 if self.ignore_index is None else self.ignore_index
        return F.cross_entropy(logits, target, ignore_index=ignored, label_smoothing=self.label_smoothing)

    def _binary_cross_entropy(self, logits: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
        wanted = target.to(logits.dtype) * (1 - self.label_smoothing) + self.label_smoothing / 2
        if valid is None:
            return F.binary_cross_entropy_with_logits(logits, wanted)
        return F.binary_cross_entropy_with_logits(logits[valid], wanted[valid])

    def _with_sample_dice(self, logits: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
        weight, smooth = SAMPLE_DICE[self.name]
        cross_entropy = self._binary_cross_entropy(logits, target, valid)
        p, t = _masked(logits.sigmoid(), target, valid)
        if self.name == "kagn_dice":  # each channel is a sample of its own
            p, t = p.flatten(0, 1), t.flatten(0, 1)  # (B*K, H, W)
        return weight * cross_entropy + sample_dice(p, t, smooth)

    def _all_classes(self, logits: Tensor, target: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return probability and mask of every class, background included, (B, C, H, W)."""
        if self.mode == "multilabel":
            return _masked(logits.sigmoid(), target, valid)
        if self.mode == "binary":
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
            target = target[:, 0]
            valid = None if valid is None else valid[:, 0]
        labels = target if valid is None else target.where(valid, 0)
        planes = F.one_hot(labels, logits.shape[1]).movedim(-1, 1)
        return _masked(logits.softmax(1), planes, None if valid is None else valid[:, None])


def _masked(p: Tensor, t: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return probabilities and targets in the same dtype, with 0 in both at ignored pixels."""
    t = t.to(p.dtype)
    return (p, t) if valid is None else (p * valid, t * valid)


def _library_loss(
    name: Loss, mode: MaskMode, ignore_index: int | None, options: dict[str, float]
) -> nn.Module | None:
    """Return the part of the loss from segmentation-models-pytorch, a function of logits, or None."""
    from segmentation_models_pytorch import losses

    known: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
        "dice": (losses.DiceLoss, {}),
        "ce_dice": (losses.DiceLoss, {}),
        "jaccard": (losses.JaccardLoss, {}),
        "tversky": (losses.TverskyLoss, {"alpha": options["alpha"], "beta": options["beta"]}),
        "focal": (losses.FocalLoss, {"gamma": options["gamma"]}),
        "lovasz": (losses.LovaszLoss, {"per_image": mode != "multiclass"}),
    }
    if name not in known:
        return None
    kind, arguments = known[name]
    if name == "focal" and mode == "multilabel":
        # The mode multilabel of the library cannot ignore single channels; the mean over all is the same.
        mode = "binary"
    return kind(mode=mode, ignore_index=ignore_index, **arguments)
