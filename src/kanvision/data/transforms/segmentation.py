"""Random transforms of images with masks, which share the geometry of their image.

The geometry is that of albumentations or, with `backend="torchvision"`, of torchvision
(`segmentation_torchvision`), under the same names. Random numbers come from torch's global generator.

C channels (any number), L label planes, H W space.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import RandomResizedCrop

from kanvision.spec.data import BACKENDS

__all__ = ["SegmentationAugment", "build_segmentation_augment"]

Geometry = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

_OFF: Final[dict[str, Any]] = {"auto_augment": None, "color_jitter": 0.0, "re_prob": 0.0}
_NO_UPDATE_CHECK: Final = "NO_ALBUMENTATIONS_UPDATE"
_MIRROR: Final = 4  # cv2.BORDER_REFLECT_101


class SegmentationAugment:
    """Random transform of an image and its labels, which may change their size.

    Args:
        geometry: Geometric transform of image and labels; None: no geometric transform.
        crop: Area range and aspect range of a random crop; None: no crop.
        brightness: The image is multiplied by a factor between 1 - brightness and 1 + brightness.
    """

    def __init__(
        self,
        geometry: Geometry | None,
        crop: tuple[Sequence[float], Sequence[float]] | None = None,
        brightness: float = 0.0,
    ) -> None:
        self.geometry = geometry
        self.crop = crop
        self.brightness = brightness

    def __call__(self, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Transform an image, (C, H, W) float32, and its labels, (L, H, W) int64."""
        if self.geometry is not None:
            image, labels = self.geometry(image, labels)
        if self.crop is not None:
            scale, ratio = self.crop
            top, left, height, width = RandomResizedCrop.get_params(image, list(scale), list(ratio))
            window = (..., slice(top, top + height), slice(left, left + width))
            image, labels = image[window], labels[window]
        if self.brightness:
            image = image * (1 + self.brightness * (2 * torch.rand(()) - 1))
        return image, labels


def build_segmentation_augment(
    *,
    backend: str = "albumentations",
    crop: str = "none",
    scale: Sequence[float] = (0.08, 1.0),
    ratio: Sequence[float] = (3 / 4, 4 / 3),
    hflip: float = 0.0,
    vflip: float = 0.0,
    transpose: float = 0.0,
    rot90: float = 0.0,
    random_affine: Mapping[str, Any] | None = None,
    brightness: float = 0.0,
    **others: Any,
) -> SegmentationAugment | None:
    """Return the random transform of training, with the keys of `augment` as arguments.

    The order is flips, transposition, rotation by multiples of 90 degrees, affine map, crop, brightness. An
    affine map pads by reflection, in image and mask; masks take the nearest label. The dataset resizes the
    result.

    Published for U-KAN (arXiv 2406.02918): hflip=0.5, vflip=0.5, rot90=0.5 and no other transform.

    Args:
        backend: albumentations or torchvision.
        crop: random_resized (a window of random area and aspect) or none.
        scale: Area range of the window.
        ratio: Aspect range of the window.
        hflip: Probability of a horizontal flip.
        vflip: Probability of a vertical flip.
        transpose: Probability of transposition.
        rot90: Probability of a rotation by 0, 90, 180 or 270 degrees, all equally likely.
        random_affine: `degrees` (largest rotation), `translate` (largest shift as a fraction of the side) and
            `scale` (range of the scale).
        brightness: Largest relative change of the brightness of the image.
        **others: Further keys of `augment`, which must be off.

    Returns:
        The transform; None if all transforms are off.

    Raises:
        ValueError: If an option is on that does not exist for masks, or a name is unknown.
    """
    if on := [f"augment.{key}={others[key]}" for key, off in _OFF.items() if others.get(key, off) != off]:
        legal = ", ".join(f"{key}={'null' if off is None else off}" for key, off in _OFF.items())
        raise ValueError(f"{', '.join(on)}: not available for segmentation; legal: {legal}")
    if crop not in ("none", "random_resized"):
        raise ValueError(f"augment.crop={crop}: not available for segmentation; legal: none, random_resized")
    if backend not in BACKENDS:
        raise ValueError(f"augment.backend={backend}; legal: {', '.join(BACKENDS)}")
    moves = {"hflip": hflip, "vflip": vflip, "transpose": transpose, "rot90": rot90}
    geometry: Geometry | None = None
    if any(moves.values()) or random_affine:
        if backend == "torchvision":
            from .segmentation_torchvision import build_torchvision_geometry

            geometry = build_torchvision_geometry(random_affine=random_affine, **moves)
        else:
            geometry = _build_albumentations_geometry(random_affine=random_affine, **moves)
    window = (tuple(scale), tuple(ratio)) if crop == "random_resized" else None
    if geometry is None and window is None and not brightness:
        return None
    return SegmentationAugment(geometry, window, brightness)


class AlbumentationsGeometry:
    """Geometric transform of image and labels by a Compose of albumentations."""

    def __init__(self, compose: Any) -> None:
        self.compose = compose

    def __call__(self, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Transform an image, (C, H, W), and its labels, (L, H, W)."""
        # albumentations has its own generators; seeded from torch's, they follow the seed of the batch. Its
        # set_random_seed would give equal numbers to all steps, so that two flips would always coincide.
        seed = int(torch.randint(2**31, ()))
        self.compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        # Channels last; OpenCV has no 64-bit integers.
        pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        planes = np.ascontiguousarray(labels.permute(1, 2, 0).numpy().astype(np.int32))
        moved = self.compose(image=pixels, mask=planes)
        # torch does not accept the negative strides of flipped arrays. Channels stay last in memory, where
        # later steps are equally fast and interpolation is twice as fast, with the same numbers.
        image, labels = (
            torch.from_numpy(np.ascontiguousarray(moved[key])).permute(2, 0, 1) for key in ("image", "mask")
        )
        return image, labels.long()


def _build_albumentations_geometry(
    *, hflip: float, vflip: float, transpose: float, rot90: float, random_affine: Mapping[str, Any] | None
) -> AlbumentationsGeometry:
    library = _import_albumentations()
    probabilities = {
        library.HorizontalFlip: hflip,
        library.VerticalFlip: vflip,
        library.Transpose: transpose,
        library.RandomRotate90: rot90,
    }
    steps = [step(p=prob) for step, prob in probabilities.items() if prob]
    if random_affine:
        degrees, shift = random_affine.get("degrees", 0.0), random_affine.get("translate", 0.0)
        affine = library.Affine(
            rotate=(-degrees, degrees),
            translate_percent=(-shift, shift),
            scale=tuple(random_affine.get("scale", (1.0, 1.0))),
            keep_ratio=True,
            border_mode=_MIRROR,
            p=1.0,
        )
        steps.append(affine)
    return AlbumentationsGeometry(library.Compose(steps))


def _import_albumentations() -> Any:
    """Import albumentations without its network request for a newer version."""
    before = os.environ.get(_NO_UPDATE_CHECK)
    os.environ[_NO_UPDATE_CHECK] = "1"
    try:
        import albumentations
        import cv2
    finally:
        if before is None:
            del os.environ[_NO_UPDATE_CHECK]
        else:
            os.environ[_NO_UPDATE_CHECK] = before
    # There is a loader process for each core already, so that threads would compete.
    cv2.setNumThreads(0)
    return albumentations
