"""Semantic segmentation.

B batch, C channels of the image, K foreground classes, H W height and width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric

from kanvision.losses import segmentation_loss
from kanvision.metrics import (
    OBJECT_SCORES,
    ThresholdSearch,
    TrainingLoss,
    border_distances,
    decide_masks,
    foreground_planes,
    foreground_probabilities,
    mask_probabilities,
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

DEFAULT_THRESHOLD = 0.5
"""Threshold of probabilities before a search."""


class SegmentationTask(Task):
    """Trains a model to predict the class of each pixel.

    A batch is `{"image": (B, C, H, W), "mask": int64, ...}`. Masks are (B, H, W): 0 and 1 (mode=binary), or
    classes of which 0 is background (multiclass); or (B, K, H, W) of 0 and 1 (multilabel). Their size may
    differ from that of the image; logits are then resized to the mask for the metrics. `instances`,
    (B, H, W), numbers the objects.

    Metrics are the scores of `kanvision.metrics.segmentation_metrics`; `loss`, the plain cross-entropy of the
    pixels, so that runs with different training losses can be compared; `training_loss`, the loss that
    training minimizes; and in the test alone the scores of `slow_segmentation_metrics`.

    A pixel is foreground if its probability is above a threshold. With `threshold=search`, every validation
    of a training run searches the best threshold (see `ThresholdSearch`). Its scores are at 0.5, and the
    threshold is saved in the checkpoint and used by every later test, which never searches one. For
    multiclass masks, the prediction is the most probable class.

    A model may have a tuple of logits (deep supervision): the training loss is the sum of their losses, and
    metrics and predictions use the first logits.

    Args:
        model: Model with logits (B, num_classes, H, W), or a tuple of such logits.
        num_classes: Number of logits: classes, background included if mode=multiclass; 2 or 1 if
            mode=binary.
        optimizer: See `Task`.
        scheduler: See `Task`.
        loss: Arguments of `kanvision.losses.segmentation_loss` but `mode` and `ignore_index`.
        mode: Kind of the masks.
        metrics: `protocol`, a list of `kanvision.spec.tasks.PROTOCOLS`; `threshold`, a number or search;
            `per_class`; `hd95`, diagonal, exclude or None; `objects`. See `segmentation_metrics` and
            `slow_segmentation_metrics`.
        ignore_index: Label of pixels that are neither trained nor scored; None: all pixels are.
        mixup: Must be off, since masks are not mixed; see `ClassificationTask`.
        extra_metrics: Further metrics of predicted and target masks, by name.
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
        extra_metrics: Mapping[str, Metric] | None = None,
        auxiliary: float = 1.0,
        penalty: Mapping[str, float] | None = None,
        config: Mapping[str, Any] | None = None,
        channels_last: bool = False,
        compile: bool | Literal["auto"] = False,
    ) -> None:
        for key in ("mixup_alpha", "cutmix_alpha"):
            if alpha := (mixup or {}).get(key):
                raise ValueError(f"mixup.{key}={alpha}: masks are not mixed; legal for segmentation: 0")
        defaults = {"protocol": DEFAULT_PROTOCOLS, "threshold": DEFAULT_THRESHOLD, "per_class": False}
        options = {**defaults, **(metrics or {})}
        num_foreground = _num_foreground(mode, num_classes)
        _check_metrics(mode, options)
        scores = segmentation_metrics(
            num_foreground,
            protocols=options["protocol"],
            per_class=options["per_class"] and num_foreground > 1,
        )
        scores.add_metrics({"training_loss": TrainingLoss(), **(extra_metrics or {})})
        slow = {key: options[key] for key in ("hd95", "objects") if key in options}
        super().__init__(
            model,
            metrics=scores,
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
        self.metric_options = options
        self.loss = segmentation_loss(**loss, mode=mode, ignore_index=ignore_index)
        plain: Loss = "bce" if mode == "multilabel" else "cross_entropy"
        self.plain_loss = segmentation_loss(plain, mode=mode, ignore_index=ignore_index)
        self.search = ThresholdSearch(num_foreground) if options["threshold"] == "search" else None
        threshold = DEFAULT_THRESHOLD if self.search is not None else options["threshold"]
        self.thresholds: tuple[float, ...] = (threshold,) * num_foreground
        """Threshold of each foreground class; not used for multiclass masks."""
        self._is_searching = self._is_found = False

    # --- predictions

    def forward(self, images: Tensor) -> Tensor:
        """Return the first logits (B, num_classes, H, W) for images (B, C, H, W)."""
        return self._all_logits(images)[0]

    def _all_logits(self, images: Tensor) -> tuple[Tensor, ...]:
        output: Tensor | tuple[Tensor, ...] = super().forward(images)
        return (output,) if isinstance(output, Tensor) else tuple(output)

    def training_loss(self, batch: Batch) -> Tensor:
        """Return the loss of the batch, summed over all logits."""
        parts = self._all_logits(batch["image"])
        return torch.stack([self.loss(logits, batch["mask"]) for logits in parts]).sum()

    def predictions(self, logits: Tensor) -> Tensor:
        """Return probabilities (B, num_classes, H, W), in at least fp32; exclusive classes sum to 1."""
        return mask_probabilities(logits, self.mode)

    def predicted_masks(self, probabilities: Tensor, thresholds: Sequence[float] | None = None) -> Tensor:
        """Return the masks of probabilities in the form of the batch's masks, see `decide_masks`.

        Args:
            probabilities: See `predictions`.
            thresholds: Threshold of each foreground class; None: `self.thresholds`.
        """
        return decide_masks(probabilities, self.mode, thresholds or self.thresholds)

    # --- metrics

    def metric_inputs(self, logits: Tensor, batch: Batch) -> dict[str, Any]:
        """Return counts of pixels, predicted and target masks, and both losses."""
        target = batch["mask"]
        if logits.shape[-2:] != target.shape[-2:]:
            logits = F.interpolate(logits, target.shape[-2:], mode="bilinear")
        probabilities = self.predictions(logits)
        thresholds = self.thresholds
        if self._is_searching and self.search is not None:
            self._update_search(self.search, probabilities, target)
            thresholds = (DEFAULT_THRESHOLD,) * len(thresholds)
        preds = self.predicted_masks(probabilities, thresholds)
        return {
            "counts": pixel_counts(preds, target, self.num_classes, self.ignore_index),
            "preds": preds,
            "target": target,
            "value": self.plain_loss(logits, target),
            "training_loss": self.loss(logits, target),
        }

    def test_metric_inputs(self, logits: Tensor, batch: Batch) -> dict[str, Any]:
        """Return the arguments of all metrics, those that take long included."""
        values = self.metric_inputs(logits, batch)
        preds, target = values["preds"], values["target"]
        if self.metric_options.get("hd95") is not None:
            valid = self._valid_pixels(target)
            pred_planes, target_planes = (
                foreground_planes(x, self.num_classes, valid) for x in (preds, target)
            )
            values["distances"] = border_distances(pred_planes, target_planes)
            values["diagonal"] = math.hypot(*target.shape[-2:])
        if self.metric_options.get("objects"):
            values["tallies"] = object_tallies(preds > 0, batch.get("instances", target))
        return values

    def _valid_pixels(self, target: Tensor) -> Tensor | None:
        return None if self.ignore_index is None else target != self.ignore_index

    def _update_search(self, search: ThresholdSearch, probabilities: Tensor, target: Tensor) -> None:
        planes, valid = target, self._valid_pixels(target)
        if self.mode == "binary":
            planes, valid = target[:, None], None if valid is None else valid[:, None]
        search.update(foreground_probabilities(probabilities, self.mode), planes == 1, valid)

    # --- threshold search

    def on_validation_start(self) -> None:
        """Start a threshold search if this is the validation of a training run."""
        super().on_validation_start()
        self._is_searching = self.search is not None and self.trainer.state.fn == "fit"
        if self.search is not None:
            self.search.reset()

    def on_validation_epoch_end(self) -> None:
        """Set and log the thresholds of a search."""
        super().on_validation_epoch_end()
        if not self._is_searching or self.search is None:
            return
        self._is_searching = False
        values: list[float] = [round(value, 6) for value in self.search.compute().reshape(-1).tolist()]
        self.thresholds, self._is_found = tuple(values), True
        names = ["threshold"] if len(values) == 1 else [f"threshold_class{i + 1}" for i in range(len(values))]
        # equal on all ranks, since `compute` reduces over them
        for name, value in zip(names, values, strict=True):
            self.log(f"val/{name}", value, sync_dist=True)

    def extra_state(self) -> dict[str, Any]:
        """Return the state of the task beside weights, with the thresholds of a search."""
        thresholds = {"thresholds": list(self.thresholds)} if self._is_found else {}
        return {**super().extra_state(), **thresholds}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Restore the state beside weights; thresholds only with `threshold=search`."""
        super().load_extra_state(state)
        values = state.get("thresholds")
        if self.search is not None and values is not None and len(values) == len(self.thresholds):
            self.thresholds, self._is_found = tuple(float(value) for value in values), True

    # --- notes

    def metric_notes(self) -> dict[str, str]:
        """Return the definitions of the scores, by their names."""
        lines = {
            ", ".join(score + suffix for score in SCORES): f"{protocol}: {PROTOCOLS[protocol]}"
            for protocol in self.metric_options["protocol"]
            for suffix in [PROTOCOL_SUFFIXES[protocol]]
        }
        if policy := self.metric_options.get("hd95"):
            lines["hd95"] = EMPTY_MASK_POLICIES[policy]
        if self.metric_options.get("objects"):
            lines[", ".join(OBJECT_SCORES)] = "as in the GlaS challenge, all images together"
        if self.mode != "multiclass":
            origin = ", found on the validation images" if self._is_found else ""
            lines["threshold"] = ", ".join(f"{value:g}" for value in self.thresholds) + origin
        return lines


def _num_foreground(mode: MaskMode, num_classes: int) -> int:
    """Return the number of scored classes."""
    legal = {"binary": (1, 2), "multiclass": range(2, 2**16), "multilabel": range(1, 2**16)}[mode]
    if num_classes not in legal:
        expected = {
            "binary": "1 or 2",
            "multiclass": "at least 2, background included",
            "multilabel": "at least 1",
        }
        raise ValueError(f"model.num_classes={num_classes}: {mode} masks need {expected[mode]}")
    return {"binary": 1, "multiclass": num_classes - 1, "multilabel": num_classes}[mode]


def _check_metrics(mode: str, options: Mapping[str, Any]) -> None:
    if mode == "multiclass" and options["threshold"] != DEFAULT_THRESHOLD:
        raise ValueError(
            f"metrics.threshold={options['threshold']}: of multiclass masks the most probable class is "
            f"predicted; legal: {DEFAULT_THRESHOLD}"
        )
    if mode != "binary" and options.get("objects"):
        raise ValueError(f"metrics.objects=True: objects are scored for binary masks, not for {mode} ones")
