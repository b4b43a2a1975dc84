"""The geometry of `augment` by torchvision's second transforms, under the same names.

C channels (any number), L label planes, H W space.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["TorchvisionGeometry", "torchvision_geometry"]


def torchvision_geometry(
    *, hflip: float, vflip: float, transpose: float, rot90: float, random_affine: Mapping[str, Any] | None
) -> TorchvisionGeometry:
    """Moves of an image and its labels; see `augment.segmentation_augment` for the arguments."""
    from torchvision.transforms import v2

    steps: list[Any] = [v2.RandomHorizontalFlip(hflip), v2.RandomVerticalFlip(vflip)]
    steps += [v2.RandomApply([_Transpose()], p=transpose), v2.RandomApply([_QuarterTurns()], p=rot90)]
    affine = None
    if random_affine:
        shift = random_affine.get("translate", 0.0)
        affine = v2.RandomAffine(
            degrees=random_affine.get("degrees", 0.0),
            translate=(shift, shift) if shift else None,
            scale=tuple(random_affine.get("scale", (1.0, 1.0))),
            interpolation=v2.InterpolationMode.BILINEAR,
        )
    return TorchvisionGeometry(v2.Compose(steps), affine)


class TorchvisionGeometry:
    """Moves image and labels by torchvision's transforms.

    Args:
        moves: Flips and turns.
        affine: A random affine map, or None.
    """

    def __init__(self, moves: Any, affine: Any) -> None:
        self.moves = moves
        self.affine = affine

    def __call__(self, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Image (C, H, W) and labels (L, H, W) to another such pair."""
        from torchvision import tv_tensors

        image, labels = self.moves(tv_tensors.Image(image), tv_tensors.Mask(labels))
        if self.affine is not None:
            # torchvision fills what comes from outside with one number; with a mirrored frame, it is the
            # mirror image that comes in, as with albumentations.
            (height, width), border = image.shape[-2:], min(image.shape[-2:]) - 1
            frame, type_of_labels = [border] * 4, labels.dtype
            params = self.affine.make_params([tv_tensors.Image(image)])  # shifts are shares of the bare size
            framed = tv_tensors.Image(F.pad(image, frame, mode="reflect"))
            framed_labels = tv_tensors.Mask(F.pad(labels.double(), frame, mode="reflect").to(type_of_labels))
            window = (..., slice(border, border + height), slice(border, border + width))
            image = self.affine.transform(framed, params)[window]
            labels = self.affine.transform(framed_labels, params)[window]
        return image.as_subclass(Tensor), labels.as_subclass(Tensor)


class _Transpose(torch.nn.Module):
    """Rows become columns."""

    def forward(self, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return _as(image, image.mT), _as(labels, labels.mT)


class _QuarterTurns(torch.nn.Module):
    """A turn by 0, 90, 180 or 270 degrees, each as likely."""

    def forward(self, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        turns = int(torch.randint(4, ()))
        return _as(image, image.rot90(turns, (-2, -1))), _as(labels, labels.rot90(turns, (-2, -1)))


def _as(kind: Tensor, value: Tensor) -> Tensor:
    """`value` with the class of `kind`, which tells an image from labels."""
    from torchvision import tv_tensors

    wrapped: Tensor = tv_tensors.wrap(value.as_subclass(Tensor), like=kind)
    return wrapped
