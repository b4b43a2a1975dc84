"""Rules on the keys of a data set and its augmentation."""

from __future__ import annotations

from typing import Any, Final

from kanvision.config.schema.keys import format_yaml

from .rules import Rule, plural

__all__ = ["RULES"]

OFF_FOR_MASKS: Final[dict[str, Any]] = {
    "augment.auto_augment": None,
    "augment.color_jitter": 0.0,
    "augment.re_prob": 0.0,
    "mixup.mixup_alpha": 0.0,
    "mixup.cutmix_alpha": 0.0,
    "data.crop_pct": 1.0,
}
"""Augmentation that cannot transform a mask together with its image -> the value that switches it off."""
FOR_MASKS_ONLY: Final = ("augment.transpose", "augment.rot90", "augment.brightness")
"""Augmentation of images with masks."""


def _off_for_masks(key: str, off: Any) -> Rule:
    why, fix = "not available for images with masks", f"legal: {format_yaml(off)}"
    return Rule(f"{key} data.task", lambda value, task: task == "segmentation" and value != off, why, fix)


def _wrong_length(values: list[float] | None, channels: int) -> dict[str, Any] | None:
    return None if values is None or len(values) == channels else {"count": plural(len(values), "value")}


# fmt: off
RULES = (
    Rule("data.sampling augment.num_repeats",
         lambda sampling, repeats: sampling == "balanced" and repeats > 1,
         "repeated augmentation has an order of its own",
         "take augment.num_repeats=1, or data.sampling=uniform"),
    *(_off_for_masks(key, off) for key, off in OFF_FOR_MASKS.items()),
    Rule("augment.crop data.task", lambda crop, task: crop == "pad" and task == "segmentation",
         "not available for images with masks", "legal: none, random_resized"),
    Rule("data.preprocessing data.in_chans", lambda name, channels: name == "u_kan" and channels != 3,
         "the published preprocessing is for color images", "take data.in_chans=3"),
    Rule("data.num_classes data.mode",
         lambda classes, mode: mode == "binary" and classes not in (None, 1, 2),
         "a binary mask has foreground and background",
         "take 2 (softmax over both) or 1 (one logit for each pixel)"),
    Rule("data.num_classes data.mode", lambda classes, mode: mode == "multiclass" and classes == 1,
         "with one class there is nothing to choose from", "take 2 or more, or data.mode=binary"),
    Rule("data.foreground data.mode", lambda values, mode: values is not None and mode == "multiclass",
         "multiclass masks hold the class of each pixel",
         "take data.mode=binary, or leave data.foreground out"),
    Rule("data.foreground data.threshold", lambda values, threshold: values is not None and threshold,
         "with a threshold, the gray level decides what is foreground", "take data.threshold=0"),
    Rule("data.foreground data.ignore_index",
         lambda values, ignored: isinstance(values, list) and {0, ignored} & set(values),
         "0 is background, and ignored pixels are neither foreground nor background",
         "leave these values out"),
    Rule("data.palette data.mode", lambda palette, mode: palette is not None and mode == "multilabel",
         "multilabel masks are a folder for each class", "take data.mode=multiclass or binary"),
    Rule("data.palette data.threshold", lambda palette, threshold: palette is not None and threshold,
         "the palette names the class of every value", "take data.threshold=0"),
    Rule("data.palette data.foreground", lambda palette, values: None not in (palette, values),
         "the palette names the class of every value", "take data.foreground=null"),
    Rule("data.ignore_index data.mode",
         lambda ignored, mode, palette: ignored in (0, 1) and mode != "multiclass" and palette is None,
         "{mode} masks hold 0 for background and 1 for foreground", "take another number, such as 255",
         reads="data.ignore_index data.mode data.palette"),
    Rule("data.ignore_index data.threshold",
         lambda ignored, threshold, mode, palette:
         ignored is not None and threshold and mode != "multiclass" and palette is None,
         "with a threshold, every gray level is either foreground or background", "take data.threshold=0",
         reads="data.ignore_index data.threshold data.mode data.palette"),
    Rule("data.bands data.in_chans",
         lambda bands, channels: bands is not None and len(bands) != channels
         and {"count": plural(len(bands), "band"), "length": len(bands)},
         "{count} for {in_chans} channels", "take data.in_chans={length}"),
    *(Rule(f"{key} data.task", lambda value, task: task == "classification" and value,
           "only available for images with masks", "legal: 0.0") for key in FOR_MASKS_ONLY),
    *(Rule(f"{key} data.task", lambda values, task: values is None and task == "classification",
           "measured for images with masks only", "give one value for each channel")
      for key in ("data.mean", "data.std")),
    *(Rule(f"{key} data.in_chans", _wrong_length,
           "{count} for {in_chans} channels", "give one value for each channel")
      for key in ("data.mean", "data.std")),
)
# fmt: on
