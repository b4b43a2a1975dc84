"""Image classification."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from timm.data import Mixup
from timm.data.mixup import mixup_target
from torch import Tensor, nn
from torchmetrics import Metric

from kanvision.losses import classification_loss
from kanvision.metrics import class_probabilities, classification_metrics, wrong_where_not_finite

from .base import Batch, Task

__all__ = ["ClassificationTask"]


class ClassificationTask(Task):
    """Trains a model to predict the class of an image.

    A batch is `{"image": (B, C, H, W), "target": (B,) int64, ...}`. Images are mixed on the device, in
    training only. The loss of validation and test is always the plain cross-entropy, so that runs with
    different training losses can be compared.

    Args:
        model: Model with logits (B, num_classes).
        num_classes: Number of classes.
        optimizer: See `Task`.
        scheduler: See `Task`.
        loss: Arguments of `kanvision.losses.classification_loss`.
        mixup: Arguments of timm's Mixup (mixup_alpha, cutmix_alpha, prob, switch_prob, mode). None or both
            alphas 0: no mixing (Zhang et al. 2018, arXiv 1710.09412; Yun et al. 2019, arXiv 1905.04899).
        extra_metrics: Further metrics of probabilities and targets, by name.
        auxiliary: See `Task`.
        penalty: See `Task`.
        config: See `Task`.
        channels_last: See `Task`.
        compile: See `Task`.
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
        extra_metrics: Mapping[str, Metric] | None = None,
        auxiliary: float = 1.0,
        penalty: Mapping[str, float] | None = None,
        config: Mapping[str, Any] | None = None,
        channels_last: bool = False,
        compile: bool | Literal["auto"] = False,
    ) -> None:
        metrics = classification_metrics(num_classes)
        metrics.add_metrics(dict(extra_metrics or {}))
        super().__init__(
            model,
            metrics=metrics,
            optimizer=optimizer,
            scheduler=scheduler,
            auxiliary=auxiliary,
            penalty=penalty,
            config=config,
            channels_last=channels_last,
            compile=compile,
        )
        mixing = {"mixup_alpha": 0.0, "cutmix_alpha": 0.0, **(mixup or {})}
        smoothing = loss.get("label_smoothing", 0.0)
        self.mixup: Mixup | None = None
        if mixing["mixup_alpha"] > 0 or mixing["cutmix_alpha"] > 0:
            mixing |= {"label_smoothing": smoothing, "num_classes": num_classes}
            self.mixup = Mixup(**mixing)  # type: ignore[no-untyped-call]
        self.loss = classification_loss(**loss, soft_targets=self.mixup is not None)

    def training_loss(self, batch: Batch) -> Tensor:
        """Return the loss of the mixed batch, summed over all logits if a nested classifier has several."""
        images, target = batch["image"], batch["target"]
        if self.mixup is not None:
            images, target = self._mix(self.mixup, images, target)
        outputs: Tensor | tuple[Tensor, ...] = self(images)
        parts = outputs if isinstance(outputs, tuple) else (outputs,)
        return torch.stack([self.loss(_to_fp32(logits), target) for logits in parts]).sum()

    def predictions(self, logits: Tensor) -> Tensor:
        """Return class probabilities (B, num_classes), in at least fp32."""
        return class_probabilities(logits)

    def metric_inputs(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Return probabilities, classes and the cross-entropy."""
        target = batch["target"]
        probabilities = wrong_where_not_finite(self.predictions(logits), target)
        value = F.cross_entropy(logits.to(probabilities.dtype), target)
        return {"preds": probabilities, "target": target, "value": value}

    @staticmethod
    def _mix(mixup: Mixup, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Mix pairs of images; the last image of an odd batch is not mixed.

        Class weights have at least fp32: in bf16 they sum to 0.998 and differ from the weights of the images.
        """
        even = len(images) - len(images) % 2
        smoothing, rest = mixup.label_smoothing, target[even:]
        with _fp32_by_default():
            unmixed = mixup_target(rest, mixup.num_classes, smoothing=smoothing)  # type: ignore[no-untyped-call]
            if not even:
                return images, unmixed
            # a clone, since timm mixes in place and callbacks see the batch
            mixed, weights = mixup(_to_fp32(images[:even]).clone(), target[:even])
        whole = torch.cat([mixed.to(images.dtype), images[even:]])  # (B, C, H, W)
        return whole, torch.cat([weights, unmixed])  # (B, num_classes)


def _to_fp32(values: Tensor) -> Tensor:
    """Convert to fp32 if the type is less precise."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


@contextmanager
def _fp32_by_default() -> Iterator[None]:
    """Create new tensors in at least fp32, also under precision=bf16-true."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.promote_types(before, torch.float32))
    try:
        yield
    finally:
        torch.set_default_dtype(before)
