"""What does not fit together within a data set's settings and its augmentation."""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter
from typing import Any, Final

from kanvision.config.errors import Problem, problem_at
from kanvision.config.keys import format_yaml
from kanvision.config.schema.data import MaskDataConfig, SegmentationFolderConfig
from kanvision.config.schema.root import TrainConfig

__all__ = ["data_problems"]

OFF_FOR_MASKS: Final[dict[str, Any]] = {
    "augment.auto_augment": None,
    "augment.color_jitter": 0.0,
    "augment.re_prob": 0.0,
    "mixup.mixup_alpha": 0.0,
    "mixup.cutmix_alpha": 0.0,
    "data.crop_pct": 1.0,
}
"""What has to be off for images with masks: nobody knows how to move a mask along."""
OFF_FOR_CLASSES: Final = ("augment.transpose", "augment.rot90", "augment.brightness")
"""What only images with masks have."""


def data_problems(config: TrainConfig) -> Iterator[Problem]:
    """Everything that is wrong between keys of `data`, `augment` and `mixup`."""
    if config.data.task == "segmentation":
        yield from _masks(config)
        yield from _bands(config)
    else:
        yield from _classes(config)
    yield from _channel_statistics(config)


def _masks(config: TrainConfig) -> Iterator[Problem]:
    for key, off in OFF_FOR_MASKS.items():
        if attrgetter(key)(config) != off:
            why = "not available for images with masks"
            yield problem_at(config, [key, "data.task"], why, f"legal: {format_yaml(off)}")
    if config.augment.crop == "pad":
        why = "not available for images with masks"
        yield problem_at(config, ["augment.crop", "data.task"], why, "legal: none, random_resized")
    data = config.data
    assert isinstance(data, MaskDataConfig)
    if data.preprocessing == "u_kan" and data.in_chans != 3:
        why = "the published preprocessing is for color images"
        yield problem_at(config, ["data.preprocessing", "data.in_chans"], why, "take data.in_chans=3")
    if data.mode == "binary" and data.num_classes not in (None, 1, 2):
        why = "a binary mask has foreground and background"
        fix = "take 2 (softmax over both) or 1 (one logit a pixel)"
        yield problem_at(config, ["data.num_classes", "data.mode"], why, fix)
    if data.mode == "multiclass" and data.num_classes == 1:
        why = "there is nothing to choose from"
        yield problem_at(
            config, ["data.num_classes", "data.mode"], why, "take 2 or more, or data.mode=binary"
        )
    if isinstance(data, SegmentationFolderConfig):
        yield from _stored_values(config, data)
        if data.ignore_index is not None:
            yield from _ignored(config, data)


def _stored_values(config: TrainConfig, data: SegmentationFolderConfig) -> Iterator[Problem]:
    if data.foreground is not None and data.mode == "multiclass":
        why = "multiclass masks hold the class of each pixel"
        yield problem_at(
            config, ["data.foreground", "data.mode"], why, "take data.mode=binary, or leave it out"
        )
    if data.foreground is not None and data.threshold:
        why = "a threshold decides by gray levels"
        yield problem_at(config, ["data.foreground", "data.threshold"], why, "take data.threshold=0")
    if isinstance(data.foreground, list) and {0, data.ignore_index} & set(data.foreground):
        why = "0 is background, and what is ignored is neither"
        yield problem_at(config, ["data.foreground", "data.ignore_index"], why, "leave these values out")
    if data.palette is None:
        return
    if data.mode == "multilabel":
        why = "multilabel masks are a folder for each class"
        yield problem_at(config, ["data.palette", "data.mode"], why, "take data.mode=multiclass or binary")
    for key, off in (("threshold", 0), ("foreground", None)):
        if getattr(data, key) != off:
            why = "the palette names the class of every value"
            fix = f"take data.{key}={format_yaml(off)}"
            yield problem_at(config, ["data.palette", f"data.{key}"], why, fix)


def _ignored(config: TrainConfig, data: SegmentationFolderConfig) -> Iterator[Problem]:
    if data.mode == "multiclass" or data.palette is not None:
        return
    if data.ignore_index in (0, 1):
        why = f"{data.mode} masks hold 0 for background and 1 for foreground"
        yield problem_at(config, ["data.ignore_index", "data.mode"], why, "take another number, such as 255")
    if data.threshold:
        why = "of gray levels, all are either foreground or background"
        yield problem_at(config, ["data.ignore_index", "data.threshold"], why, "take data.threshold=0")


def _bands(config: TrainConfig) -> Iterator[Problem]:
    bands = getattr(config.data, "bands", None)
    if bands is not None and len(bands) != config.data.in_chans:
        why = f"{len(bands)} band{'s' * (len(bands) != 1)} for {config.data.in_chans} channels"
        yield problem_at(config, ["data.bands", "data.in_chans"], why, f"take data.in_chans={len(bands)}")


def _classes(config: TrainConfig) -> Iterator[Problem]:
    for key in OFF_FOR_CLASSES:
        if attrgetter(key)(config):
            why = "only available for images with masks"
            yield problem_at(config, [key, "data.task"], why, "legal: 0.0")


def _channel_statistics(config: TrainConfig) -> Iterator[Problem]:
    for key in ("data.mean", "data.std"):
        values = attrgetter(key)(config)
        if values is None and config.data.task == "classification":
            why = "is measured for images with masks only"
            yield problem_at(config, [key, "data.task"], why, "give one value for each channel")
        elif values is not None and len(values) != config.data.in_chans:
            count = len(values)
            why = f"{count} value{'s' * (count != 1)} for {config.data.in_chans} channels"
            yield problem_at(config, [key, "data.in_chans"], why, "give one value for each channel")
