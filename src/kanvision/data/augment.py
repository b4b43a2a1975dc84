"""Random geometry for images with masks, by albumentations: an image and its mask always move together.

C channels (any number), H W space.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["MaskedAugment", "segmentation_augment"]

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

_OFF: Final[dict[str, Any]] = {"crop": "none", "auto_augment": None, "color_jitter": 0.0, "re_prob": 0.0}
_NO_UPDATE_CHECK: Final = "NO_ALBUMENTATIONS_UPDATE"
_MIRROR: Final = 4  # cv2.BORDER_REFLECT_101


class MaskedAugment:
    """A random transform of an image and its mask.

    Random numbers come from torch's global generator.

    Args:
        compose: albumentations' Compose.
    """

    def __init__(self, compose: Any) -> None:
        self.compose = compose

    def __call__(self, image: Floats, mask: Labels) -> tuple[Floats, Labels]:
        """Image (H, W, C) and mask (H, W) to another such pair."""
        # albumentations has generators of its own; seeded from torch's, they follow the seed of the batch.
        # Its set_random_seed would give every step the same numbers: two flips would always come together.
        seed = int(torch.randint(2**31, ()))
        self.compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        # OpenCV knows no 64-bit integers.
        moved = self.compose(image=image, mask=mask.astype(np.int32))
        return moved["image"], moved["mask"].astype(np.int64)


def segmentation_augment(
    *,
    hflip: float = 0.0,
    vflip: float = 0.0,
    random_affine: Mapping[str, Any] | None = None,
    **others: Any,
) -> MaskedAugment | None:
    """The random transform of training; arguments are the keys of `augment`.

    Images that may be flipped both ways have no up side, so they are turned by 0, 90, 180 or 270 degrees too.
    What an affine map brings in from outside is mirrored, in image and mask; masks take the nearest label.

    Args:
        hflip: Probability of a horizontal flip.
        vflip: Probability of a vertical flip.
        random_affine: `degrees` (largest rotation), `translate` (largest shift as a share of the side) and
            `scale` (range of the zoom).
        **others: Further keys of `augment`: they must be off. Settings of what is off have no effect.

    Returns:
        The transform, or None where there is nothing to do.

    Raises:
        ValueError: If something is on that does not exist for masks.
    """
    if on := [f"augment.{key}={others[key]}" for key, off in _OFF.items() if others.get(key, off) != off]:
        legal = ", ".join(f"{key}={'null' if off is None else off}" for key, off in _OFF.items())
        raise ValueError(f"{', '.join(on)}: not available for segmentation; legal: {legal}")
    if not (hflip or vflip or random_affine):
        return None
    library = _albumentations()
    steps = []
    if hflip:
        steps.append(library.HorizontalFlip(p=hflip))
    if vflip:
        steps.append(library.VerticalFlip(p=vflip))
    if hflip and vflip:
        steps.append(library.RandomRotate90(p=1.0))
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
    return MaskedAugment(library.Compose(steps))


def _albumentations() -> Any:
    """The library, imported without the call over the network that it makes to look for a newer version."""
    before = os.environ.get(_NO_UPDATE_CHECK)
    os.environ[_NO_UPDATE_CHECK] = "1"
    try:
        import albumentations
    finally:
        if before is None:
            del os.environ[_NO_UPDATE_CHECK]
        else:
            os.environ[_NO_UPDATE_CHECK] = before
    return albumentations
