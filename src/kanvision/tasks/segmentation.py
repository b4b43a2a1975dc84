"""One class per pixel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kanvision.losses import segmentation_loss
from kanvision.metrics import class_probabilities, segmentation_metrics

from .base import Batch, Task

__all__ = ["SegmentationTask"]


class SegmentationTask(Task):
    """Trains a network to name the class of each pixel.

    A batch is `{"image": (B, C, H, W), "mask": (B, H, W) int64, ...}`; class 0 is background. Measured are
    `iou`, `f1`, `iou_dataset` and `f1_dataset` (see `kanvision.metrics.segmentation_metrics`) and the plain
    cross-entropy of the pixels, whatever the training loss is, so that runs compare.

    A network may give a tuple of logits (deep supervision): the training loss is the sum of their losses, and
    the first ones are measured and predicted from.

    Args:
        model: Network giving logits (B, num_classes, H, W), or a tuple of such.
        num_classes: Number of classes, background included.
        optimizer: See `Task`.
        scheduler: See `Task`.
        loss: Arguments of `kanvision.losses.segmentation_loss`.
        mixup: As for classification; must be off, masks are not mixed.
        auxiliary: See `Task`.
        penalty: See `Task`.
        config: See `Task`.
        channels_last: See `Task`.
        compile: See `Task`.

    Raises:
        ValueError: If there are fewer than two classes, or images are to be mixed.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        num_classes: int,
        optimizer: Mapping[str, Any],
        scheduler: Mapping[str, Any],
        loss: Mapping[str, Any],
        mixup: Mapping[str, Any] | None = None,
        auxiliary: float = 1.0,
        penalty: Mapping[str, float] | None = None,
        config: Mapping[str, Any] | None = None,
        channels_last: bool = False,
        compile: bool = False,
    ) -> None:
        for key in ("mixup_alpha", "cutmix_alpha"):
            if alpha := (mixup or {}).get(key):
                raise ValueError(f"mixup.{key}={alpha}: masks are not mixed; legal for segmentation: 0")
        super().__init__(
            model,
            metrics=segmentation_metrics(num_classes),
            optimizer=optimizer,
            scheduler=scheduler,
            auxiliary=auxiliary,
            penalty=penalty,
            config=config,
            channels_last=channels_last,
            compile=compile,
        )
        self.loss = segmentation_loss(**loss)

    def forward(self, images: Tensor) -> Tensor:
        """The logits (B, num_classes, H, W) that count, for images (B, C, H, W)."""
        return self._all_logits(images)[0]

    def _all_logits(self, images: Tensor) -> tuple[Tensor, ...]:
        output: Tensor | tuple[Tensor, ...] = super().forward(images)
        return (output,) if isinstance(output, Tensor) else tuple(output)

    def training_loss(self, batch: Batch) -> Tensor:
        """Loss of the batch, summed over all logits; in at least fp32, because it sums over all pixels."""
        parts = self._all_logits(batch["image"])
        return torch.stack([self.loss(_at_least_fp32(logits), batch["mask"]) for logits in parts]).sum()

    def predictions(self, logits: Tensor) -> Tensor:
        """Class probabilities (B, num_classes, H, W), in at least fp32."""
        return class_probabilities(logits)

    def measurement(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Class maps against masks, and the cross-entropy."""
        # argmax gives the place of a NaN; such a pixel must not count as a guess of that class.
        classes = logits.argmax(dim=1).where(logits.isfinite().all(dim=1), -1)  # (B, H, W)
        value = F.cross_entropy(_at_least_fp32(logits), batch["mask"])
        return {"preds": classes, "target": batch["mask"], "value": value}


def _at_least_fp32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
