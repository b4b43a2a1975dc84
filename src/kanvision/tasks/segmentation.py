"""The class, or the classes, of each pixel.

B batch, C channels of the image, K foreground classes, H W space.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kanvision.losses import segmentation_loss
from kanvision.metrics import (
    OBJECT_SCORES,
    ThresholdSearch,
    TrainingLoss,
    border_distances,
    foreground_planes,
    object_tallies,
    pixel_counts,
    segmentation_metrics,
    slow_segmentation_metrics,
)
from kanvision.spec.tasks import (
    DEFAULT_PROTOCOLS,
    EMPTY_MASK_POLICIES,
    PROTOCOL_SUFFIXES,
    PROTOCOLS,
    SCORES,
    Loss,
    MaskMode,
)

from .base import Batch, Task

__all__ = ["SegmentationTask"]

EVEN = 0.5
"""The threshold that stands until another one is found."""


class SegmentationTask(Task):
    """Trains a network to name the class of each pixel.

    A batch is `{"image": (B, C, H, W), "mask": int64, ...}`. Masks are (B, H, W): 0 and 1 (mode=binary), or
    classes of which 0 is background (multiclass); or (B, K, H, W) of 0 and 1 (multilabel). They may be larger
    or smaller than the image; logits are then resized to them for measuring. `instances`, (B, H, W), numbers
    the objects.

    Measured are the scores of `kanvision.metrics.segmentation_metrics`; `loss`, the plain cross-entropy of
    the pixels, so that runs compare whatever they were trained with; `training_loss`, the loss that training
    minimizes; and in the test alone the scores of `slow_segmentation_metrics`.

    A pixel is foreground where its probability is above a threshold. With `threshold=search` that is found
    anew by every validation of a training run, see `ThresholdSearch`; the scores of these validations are at
    0.5, and what was found stays with the checkpoint and is used by every later test. A test never looks for
    one. Of multiclass masks, the most probable class is taken.

    A network may give a tuple of logits (deep supervision): the training loss is the sum of their losses, and
    the first ones are measured and predicted from.

    Args:
        model: Network giving logits (B, num_classes, H, W), or a tuple of such.
        num_classes: Number of logits: classes, background included where mode=multiclass; 2 or 1 where
            mode=binary.
        optimizer: See `Task`.
        scheduler: See `Task`.
        loss: Arguments of `kanvision.losses.segmentation_loss` but `mode` and `ignore_index`.
        mode: What masks are.
        metrics: `protocol`, a list of `kanvision.spec.tasks.PROTOCOLS`; `threshold`, a number or search;
            `per_class`; `hd95`, diagonal, exclude or None; `objects`. See `segmentation_metrics` and
            `slow_segmentation_metrics`.
        ignore_index: Label of pixels that neither train nor count; None: all do.
        mixup: As for classification; must be off, masks are not mixed.
        auxiliary: See `Task`.
        penalty: See `Task`.
        config: See `Task`.
        channels_last: See `Task`.
        compile: See `Task`.

    Raises:
        ValueError: If the number of classes does not fit the mode, the loss or the metrics do not, or images
            are to be mixed.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        num_classes: int,
        optimizer: Mapping[str, Any],
        scheduler: Mapping[str, Any],
        loss: Mapping[str, Any],
        mode: MaskMode = "multiclass",
        metrics: Mapping[str, Any] | None = None,
        ignore_index: int | None = None,
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
        wanted = {"protocol": DEFAULT_PROTOCOLS, "threshold": EVEN, "per_class": False, **(metrics or {})}
        num_foreground = _num_foreground(mode, num_classes)
        _check_metrics(mode, wanted)
        measured = segmentation_metrics(
            num_foreground,
            protocols=wanted["protocol"],
            per_class=wanted["per_class"] and num_foreground > 1,
        )
        measured.add_metrics({"training_loss": TrainingLoss()})
        slow = {key: wanted[key] for key in ("hd95", "objects") if key in wanted}
        super().__init__(
            model,
            metrics=measured,
            test_metrics=slow_segmentation_metrics(**slow),
            optimizer=optimizer,
            scheduler=scheduler,
            auxiliary=auxiliary,
            penalty=penalty,
            config=config,
            channels_last=channels_last,
            compile=compile,
        )
        self.mode = mode
        self.num_classes = 2 if mode == "binary" else num_classes
        self.ignore_index = ignore_index
        self.wanted = wanted
        self.loss = segmentation_loss(**loss, mode=mode, ignore_index=ignore_index)
        plain: Loss = "bce" if mode == "multilabel" else "cross_entropy"
        self.plain_loss = segmentation_loss(plain, mode=mode, ignore_index=ignore_index)
        self.search = ThresholdSearch(num_foreground) if wanted["threshold"] == "search" else None
        start = EVEN if self.search is not None else wanted["threshold"]
        self.thresholds: tuple[float, ...] = (start,) * num_foreground
        """Of each foreground class; not used for multiclass masks."""
        self._searches = self._has_found = False

    # --- what the network says

    def forward(self, images: Tensor) -> Tensor:
        """The logits (B, num_classes, H, W) that count, for images (B, C, H, W)."""
        return self._all_logits(images)[0]

    def _all_logits(self, images: Tensor) -> tuple[Tensor, ...]:
        output: Tensor | tuple[Tensor, ...] = super().forward(images)
        return (output,) if isinstance(output, Tensor) else tuple(output)

    def training_loss(self, batch: Batch) -> Tensor:
        """Loss of the batch, summed over all logits."""
        parts = self._all_logits(batch["image"])
        return torch.stack([self.loss(logits, batch["mask"]) for logits in parts]).sum()

    def predictions(self, logits: Tensor) -> Tensor:
        """Probabilities (B, num_classes, H, W), in at least fp32; they sum to 1 where classes exclude."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        is_apart = self.mode == "multilabel" or logits.shape[1] == 1
        return logits.sigmoid() if is_apart else logits.softmax(dim=1)

    def predicted_masks(self, probabilities: Tensor, thresholds: Sequence[float] | None = None) -> Tensor:
        """Masks from probabilities.

        Args:
            probabilities: See `predictions`.
            thresholds: One of each foreground class; None: the task's own.

        Returns:
            Masks in the form of the batch's, int64. -1 stands for no class at all, where the network gave no
            number; of binary and multilabel masks, that is background.
        """
        if self.mode == "multiclass":
            # argmax gives the place of a NaN; such a pixel must not count as a guess of that class.
            return probabilities.argmax(dim=1).where(probabilities.isfinite().all(dim=1), -1)
        foreground = self._foreground(probabilities)
        limits = foreground.new_tensor(thresholds or self.thresholds)[:, None, None]
        planes = (foreground > limits).long()  # (B, K, H, W)
        return planes[:, 0] if self.mode == "binary" else planes

    def _foreground(self, probabilities: Tensor) -> Tensor:
        return probabilities[:, -1:] if self.mode == "binary" else probabilities

    # --- measuring

    def metric_inputs(self, logits: Tensor, batch: Batch) -> dict[str, Any]:
        """Counted pixels, the masks themselves, and both losses."""
        target = batch["mask"]
        if logits.shape[-2:] != target.shape[-2:]:
            logits = F.interpolate(logits, target.shape[-2:], mode="bilinear")
        probabilities = self.predictions(logits)
        thresholds = self.thresholds
        if self._searches and self.search is not None:
            self._add_to_search(self.search, probabilities, target)
            thresholds = (EVEN,) * len(thresholds)
        preds = self.predicted_masks(probabilities, thresholds)
        return {
            "counts": pixel_counts(preds, target, self.num_classes, self.ignore_index),
            "preds": preds,
            "target": target,
            "value": self.plain_loss(logits, target),
            "training_loss": self.loss(logits, target),
        }

    def test_metric_inputs(self, logits: Tensor, batch: Batch) -> dict[str, Any]:
        """The same, and what takes long."""
        values = self.metric_inputs(logits, batch)
        preds, target = values["preds"], values["target"]
        if self.wanted.get("hd95") is not None:
            valid = self._valid(target)
            found, right = (foreground_planes(x, self.num_classes, valid) for x in (preds, target))
            values["distances"] = border_distances(found, right)
            values["diagonal"] = math.hypot(*target.shape[-2:])
        if self.wanted.get("objects"):
            values["tallies"] = object_tallies(preds > 0, batch.get("instances", target))
        return values

    def _valid(self, target: Tensor) -> Tensor | None:
        return None if self.ignore_index is None else target != self.ignore_index

    def _add_to_search(self, search: ThresholdSearch, probabilities: Tensor, target: Tensor) -> None:
        planes, valid = target, self._valid(target)
        if self.mode == "binary":
            planes, valid = target[:, None], None if valid is None else valid[:, None]
        search.update(self._foreground(probabilities), planes == 1, valid)

    # --- the threshold

    def on_validation_start(self) -> None:
        """Look for thresholds if this is the validation of a training run."""
        super().on_validation_start()
        self._searches = self.search is not None and self.trainer.state.fn == "fit"
        if self.search is not None:
            self.search.reset()

    def on_validation_epoch_end(self) -> None:
        """Keep the thresholds that were found."""
        super().on_validation_epoch_end()
        if not self._searches or self.search is None:
            return
        self._searches = False
        found: list[float] = [round(value, 6) for value in self.search.compute().reshape(-1).tolist()]
        self.thresholds, self._has_found = tuple(found), True
        names = ["threshold"] if len(found) == 1 else [f"threshold_class{i + 1}" for i in range(len(found))]
        # equal on all processes already
        for name, value in zip(names, found, strict=True):
            self.log(f"val/{name}", value, sync_dist=True)

    def extra_state(self) -> dict[str, Any]:
        """What a checkpoint holds of a task beside weights."""
        found = {"thresholds": list(self.thresholds)} if self._has_found else {}
        return {**super().extra_state(), **found}

    def load_extra_state(self, kept: Mapping[str, Any]) -> None:
        """Use the thresholds of a checkpoint, if they are to be searched for."""
        super().load_extra_state(kept)
        found = kept.get("thresholds")
        if self.search is not None and found is not None and len(found) == len(self.thresholds):
            self.thresholds, self._has_found = tuple(float(value) for value in found), True

    # --- telling

    def metric_notes(self) -> dict[str, str]:
        """How the scores were taken, by their names."""
        lines = {
            ", ".join(
                score + PROTOCOL_SUFFIXES[protocol] for score in SCORES
            ): f"{protocol}: {PROTOCOLS[protocol]}"
            for protocol in self.wanted["protocol"]
        }
        if policy := self.wanted.get("hd95"):
            lines["hd95"] = EMPTY_MASK_POLICIES[policy]
        if self.wanted.get("objects"):
            lines[", ".join(OBJECT_SCORES)] = "as in the GlaS challenge, all images together"
        if self.mode != "multiclass":
            origin = ", found on the validation images" if self._has_found else ""
            lines["threshold"] = ", ".join(f"{value:g}" for value in self.thresholds) + origin
        return lines


def _num_foreground(mode: MaskMode, num_classes: int) -> int:
    """Number of classes that are scored."""
    legal = {"binary": (1, 2), "multiclass": range(2, 2**16), "multilabel": range(1, 2**16)}[mode]
    if num_classes not in legal:
        expected = {
            "binary": "1 or 2",
            "multiclass": "at least 2, background included",
            "multilabel": "at least 1",
        }
        raise ValueError(f"model.num_classes={num_classes}: {mode} masks need {expected[mode]}")
    return {"binary": 1, "multiclass": num_classes - 1, "multilabel": num_classes}[mode]


def _check_metrics(mode: str, wanted: Mapping[str, Any]) -> None:
    if mode == "multiclass" and wanted["threshold"] != EVEN:
        raise ValueError(
            f"metrics.threshold={wanted['threshold']}: of multiclass masks the most probable class is taken; "
            f"legal: {EVEN}"
        )
    if mode != "binary" and wanted.get("objects"):
        raise ValueError(f"metrics.objects=True: objects are scored for binary masks, not for {mode} ones")
