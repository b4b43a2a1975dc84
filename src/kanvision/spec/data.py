"""Data sets: ways to read, split, resize and augment them."""

from __future__ import annotations

from typing import Final, Literal, get_args

Split = Literal["train", "val", "test"]
SPLITS: Final[tuple[str, ...]] = get_args(Split)
EvalSplit = Literal["val", "test"]
EVAL_SPLITS: Final[tuple[str, ...]] = get_args(EvalSplit)
Interpolation = Literal["nearest", "bilinear", "bicubic"]
FaultPolicy = Literal["raise", "skip"]
"""Reaction to a sample that cannot be read, or to a step that is not finite: an error, or it is left out."""
FAULT_POLICIES: Final[tuple[FaultPolicy, ...]] = get_args(FaultPolicy)
PreprocessingName = Literal["default", "u_kan"]
PREPROCESSINGS: Final[tuple[PreprocessingName, ...]] = get_args(PreprocessingName)
EvalSize = Literal["input", "original"]
"""Size at which masks are scored."""
Backend = Literal["albumentations", "torchvision"]
"""Library that moves images with masks."""
BACKENDS: Final[tuple[Backend, ...]] = get_args(Backend)
Crop = Literal["random_resized", "pad", "none"]
CROPS: Final[tuple[Crop, ...]] = get_args(Crop)

BUSISplit = Literal["groups", "published"]
GlaSSplit = Literal["official", "patients", "published"]
GlaSTest = Literal["A", "B", "AB"]
CVCSplit = Literal["published", "sequences"]
Sensor = Literal["s2", "s1"]
SentinelMode = Literal["binary", "multiclass"]
"""Mode of masks of the Sentinel crops: fields or not, or the classes of crops."""

Sampling = Literal["uniform", "balanced"]
"""Order in which training images are drawn."""
