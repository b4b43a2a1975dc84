"""Tasks, masks, losses and metrics."""

from __future__ import annotations

from typing import Final, Literal, get_args

TaskName = Literal["classification", "segmentation"]
"""Meaning of the labels of a data set."""
Kind = Literal["classifier", "segmenter"]
"""Kind of a network."""
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
KIND_BY_TASK: Final[dict[TaskName, Kind]] = {"classification": "classifier", "segmentation": "segmenter"}

MaskMode = Literal["binary", "multiclass", "multilabel"]
"""binary: foreground or background; multiclass: one class a pixel; multilabel: a mask for each class."""
MASK_MODES: Final[tuple[MaskMode, ...]] = get_args(MaskMode)

Loss = Literal[
    "cross_entropy",
    "bce",
    "focal",
    "dice",
    "jaccard",
    "tversky",
    "lovasz",
    "generalized_dice",
    "ce_dice",
    "bce_dice",
    "kagn_dice",
]
CLASSIFICATION_LOSSES: Final[tuple[Loss, ...]] = ("cross_entropy", "bce")
"""Losses of one class per image."""
SEGMENTATION_LOSSES: Final[dict[Loss, tuple[MaskMode, ...]]] = {
    "cross_entropy": ("binary", "multiclass"),
    "bce": ("binary", "multilabel"),
    "focal": MASK_MODES,
    "dice": MASK_MODES,
    "jaccard": MASK_MODES,
    "tversky": MASK_MODES,
    "lovasz": MASK_MODES,
    "generalized_dice": MASK_MODES,
    "ce_dice": ("binary", "multiclass"),
    "bce_dice": ("binary", "multilabel"),
    "kagn_dice": ("binary", "multilabel"),
}
"""Modes of masks that each loss is defined for."""
SMOOTHED_LOSSES: Final[tuple[Loss, ...]] = ("cross_entropy", "ce_dice")
"""Losses of masks with a cross-entropy of classes, whose labels can be smoothed."""

Score = Literal["iou", "f1", "precision", "recall"]
"""Score of the overlap of two masks."""
SCORES: Final[tuple[Score, ...]] = get_args(Score)
Protocol = Literal["image", "dataset", "paper"]
"""Rule by which the scores of images are averaged."""
DEFAULT_PROTOCOLS: Final[tuple[Protocol, ...]] = ("image", "dataset")
PROTOCOLS: Final[dict[Protocol, str]] = {
    "image": "score of each image, mean over images",
    "dataset": "pixels of all images taken together",
    "paper": "pixels of each batch taken together, mean over batches: depends on the batch size",
}
"""Rule of each protocol in words."""
PROTOCOL_SUFFIXES: Final[dict[Protocol, str]] = {"image": "", "dataset": "_dataset", "paper": "_batch"}
"""Ending of the name of a score under each protocol."""
EmptyMaskPolicy = Literal["diagonal", "exclude"]
"""Distance of borders if one of two masks is empty: the image's diagonal, or the image is left out."""
EMPTY_MASK_POLICIES: Final[dict[EmptyMaskPolicy, str]] = {
    "diagonal": "pixels; the image's diagonal where one of two masks is empty",
    "exclude": "pixels; images where one of two masks is empty are left out",
}
"""Unit and policy of the distance in words."""

CLASSIFICATION_METRICS: Final = ("loss", "acc1", "acc5", "ece")
"""Metrics that the validation of a classifier logs."""
LOWER_IS_BETTER: Final = ("loss", "training_loss", "ece")
"""Metrics of validation whose smaller values are better; of all others the larger ones are."""
