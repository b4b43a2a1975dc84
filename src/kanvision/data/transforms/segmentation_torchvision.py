"""Geometric transforms of `augment` by torchvision's transforms.v2, under the same names.

C channels (any number), L label planes, H W space.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["TorchvisionGeometry", "build_torchvision_geometry"]


def build_torchvision_geometry(
    *, hflip: float, vflip: float, transpose: float, rot90: float, random_affine: Mapping[str, Any] | None
) -> TorchvisionGeometry:
    """Return the geometric transform, with the arguments of `build_segmentation_augment`."""
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
    """Geometric transform of image and labels by torchvision.

    Args:
        moves: Flips and rotations.
        affine: Random affine map, or None.
    """

    def __init__(self, moves: Any, affine: Any) -> None:
        self.moves = moves
        self.affine = affine

    def __call__(self, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Transform an image, (C, H, W), and its labels, (L, H, W)."""
        from torchvision import tv_tensors

        image, labels = self.moves(tv_tensors.Image(image), tv_tensors.Mask(labels))
        if self.affine is not None:
            # torchvision pads with one number; a reflected frame gives padding by reflection, as in
            # albumentations.
            (height, width), border = image.shape[-2:], min(image.shape[-2:]) - 1
            frame, type_of_labels = [border] * 4, labels.dtype
            params = self.affine.make_params(
                [tv_tensors.Image(image)]
            )  # shifts are fractions of the size without frame
            framed = tv_tensors.Image(F.pad(image, frame, mode="reflect"))
            framed_labels = tv_tensors.Mask(F.pad(labels.double(), frame, mode="reflect").to(type_of_labels))
            window = (..., slice(border, border + height), slice(border, border + width))
            image = self.affine.transform(framed, params)[window]
            labels = self.affine.transform(framed_labels, params)[window]
        return image.as_subclass(Tensor), labels.as_subclass(Tensor)


class _Transpose(torch.nn.Module):
    """Transposition of rows and columns."""

    def forward(self, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return _as(image, image.mT), _as(labels, labels.mT)


class _QuarterTurns(torch.nn.Module):
    """Random rotation by 0, 90, 180 or 270 degrees, all equally likely."""

    def forward(self, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        turns = int(torch.randint(4, ()))
        return _as(image, image.rot90(turns, (-2, -1))), _as(labels, labels.rot90(turns, (-2, -1)))


def _as(kind: Tensor, value: Tensor) -> Tensor:
    """Return a value as the tensor class of another, which is that of images or of masks."""
    from torchvision import tv_tensors

    wrapped: Tensor = tv_tensors.wrap(value.as_subclass(Tensor), like=kind)
    return wrapped
