"""Transforms from stored images to normalized batches, for classification.

A transform handles a whole batch in four stages, in timm's order:

1. each image alone, by Pillow: color mode, resize or random resized crop to S x S
2. the whole batch of bytes: pad and crop, flips, affine map, with separate random numbers for each image
3. each image alone, by Pillow: policies of timm (RandAugment, ...) and color jitter
4. the whole batch: scale to [0, 1], expand to in_chans channels, normalize, random erasing

Stages without work are skipped; small images in memory of size S x S are not converted to Pillow.

B batch, C channels, S side of the square image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data.random_erasing import RandomErasing
from timm.data.transforms_factory import create_transform
from torch import Tensor
from torchvision.transforms import Compose

from kanvision.spec.data import CROPS

from .auto_augment import build_torchvision_policy
from .batch_ops import Flip, PadCrop, RandomAffine

__all__ = ["BatchTransform", "ImageSpec", "build_evaluation_transform", "build_training_transform"]


@dataclass(frozen=True)
class ImageSpec:
    """Size, channels and normalization of the input of a model.

    Attributes:
        img_size: Side in pixels, S.
        in_chans: Number of channels. 1: gray; 3: color; any other number: red, green, blue, red, ...
            repeated.
        mean: Mean of each channel, in units of [0, 1].
        std: Standard deviation of each channel, in units of [0, 1].

    Raises:
        ValueError: If mean or std do not have in_chans values.
    """

    img_size: int
    in_chans: int
    mean: Sequence[float]
    std: Sequence[float]

    def __post_init__(self) -> None:
        lengths = {"mean": len(self.mean), "std": len(self.std)}
        wrong = [f"data.{key} has {n} values" for key, n in lengths.items() if n != self.in_chans]
        if wrong:
            raise ValueError(
                f"{' and '.join(wrong)}, data.in_chans is {self.in_chans}; give one value a channel"
            )

    @property
    def bands(self) -> int:
        """Number of channels of the stored image in use: 1 (gray) or 3 (color)."""
        return 1 if self.in_chans == 1 else 3


class BatchTransform:
    """Transform from images of any size to a float batch.

    Args:
        spec: Size, channels and normalization of the batch.
        resize: Stage 1 without the color mode, from an image of any size to S x S.
        keep_fitting: True if `resize` does not change images of S x S, so that it can be skipped for them.
        batch_ops: Stage 2, functions of bytes (B, C, S, S).
        policy: Stage 3, a function of an image that keeps its size.
        erase: End of stage 4, in place on the normalized batch.
    """

    def __init__(
        self,
        spec: ImageSpec,
        resize: Callable[[Image.Image], Image.Image],
        *,
        keep_fitting: bool,
        batch_ops: Sequence[Callable[[Tensor], Tensor]] = (),
        policy: Callable[[Image.Image], Image.Image] | None = None,
        erase: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.spec = spec
        self.resize = resize
        self.keep_fitting = keep_fitting
        self.batch_ops = tuple(batch_ops)
        self.policy = policy
        self.erase = erase
        self.channels = torch.arange(spec.in_chans) % spec.bands
        self.mean = torch.tensor(spec.mean, dtype=torch.float32)[:, None, None]
        self.std = torch.tensor(spec.std, dtype=torch.float32)[:, None, None]

    def __call__(self, images: Sequence[Image.Image] | Tensor) -> Tensor:
        """Transform a batch.

        Args:
            images: Images of Pillow, or one tensor of bytes (B, 1 or 3, H, W).

        Returns:
            Batch, (B, in_chans, S, S) float32.
        """
        if isinstance(images, Tensor) and self._fits(images):
            batch = images.expand(-1, self.spec.bands, -1, -1)
        else:
            batch = self._stack([self.resize(self._in_mode(image)) for image in _to_pictures(images)])
        for op in self.batch_ops:
            batch = op(batch)
        if self.policy is not None:
            batch = self._stack([self.policy(image) for image in _to_pictures(batch)])
        pixels = batch.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
        if self.spec.in_chans != self.spec.bands:
            pixels = pixels[:, self.channels]
        pixels.sub_(self.mean).div_(self.std)
        return pixels if self.erase is None else self.erase(pixels)

    def _fits(self, images: Tensor) -> bool:
        size = self.spec.img_size
        return (
            self.keep_fitting and images.shape[2:] == (size, size) and images.shape[1] in (1, self.spec.bands)
        )

    def _in_mode(self, image: Image.Image) -> Image.Image:
        mode = "L" if self.spec.bands == 1 else "RGB"
        return image if image.mode == mode else image.convert(mode)

    def _stack(self, images: Sequence[Image.Image]) -> Tensor:
        arrays = np.stack([np.asarray(image) for image in images])
        if self.spec.bands == 1:
            return torch.from_numpy(arrays)[:, None]  # (B, 1, S, S)
        return torch.from_numpy(arrays).permute(0, 3, 1, 2)  # (B, S, S, C) -> (B, C, S, S)


def _to_pictures(images: Sequence[Image.Image] | Tensor) -> Sequence[Image.Image]:
    if not isinstance(images, Tensor):
        return images
    arrays = images[:, 0] if images.shape[1] == 1 else images.permute(0, 2, 3, 1)
    return [Image.fromarray(array) for array in np.ascontiguousarray(arrays.numpy())]


def _build_center_crop(
    spec: ImageSpec, interpolation: str, crop_pct: float
) -> Callable[[Image.Image], Image.Image]:
    """Return timm's evaluation geometry: resize the short side to S / crop_pct, crop the central S x S."""
    whole = create_transform(spec.img_size, interpolation=interpolation, crop_pct=crop_pct, normalize=False)
    geometry: Callable[[Image.Image], Image.Image] = Compose(whole.transforms[:2])  # resize, center crop
    return geometry


def build_evaluation_transform(
    spec: ImageSpec, *, interpolation: str = "bilinear", crop_pct: float = 1.0
) -> BatchTransform:
    """Return the transform of validation and test, equal to timm's `create_transform(is_training=False)`.

    Args:
        spec: Size, channels and normalization of the batch.
        interpolation: nearest, bilinear or bicubic.
        crop_pct: Fraction of the resized image that the center crop keeps.
    """
    return BatchTransform(
        spec, _build_center_crop(spec, interpolation, crop_pct), keep_fitting=_keeps_size(spec, crop_pct)
    )


def _keeps_size(spec: ImageSpec, crop_pct: float) -> bool:
    return int(spec.img_size / crop_pct) == spec.img_size


def build_training_transform(
    spec: ImageSpec,
    *,
    crop: str = "none",
    pad: int = 4,
    scale: Sequence[float] = (0.08, 1.0),
    ratio: Sequence[float] = (3 / 4, 4 / 3),
    interpolation: str = "bilinear",
    hflip: float = 0.0,
    vflip: float = 0.0,
    auto_augment: str | None = None,
    color_jitter: float = 0.0,
    random_affine: Mapping[str, Any] | None = None,
    re_prob: float = 0.0,
    re_mode: str = "pixel",
    re_count: int = 1,
    backend: str = "albumentations",
    **others: float,
) -> BatchTransform:
    """Return the random transform of training, with the keys of `augment` as arguments.

    Args:
        spec: Size, channels and normalization of the batch.
        crop: random_resized; pad (resize to S, zero-pad by `pad`, random S x S crop); none (resize to S).
        pad: Pixels of padding for crop=pad.
        scale: Area range of the random resized crop.
        ratio: Aspect range of the random resized crop.
        interpolation: nearest, bilinear, bicubic, or random (for random_resized; else bilinear, as in timm).
        hflip: Probability of a horizontal flip.
        vflip: Probability of a vertical flip.
        auto_augment: Policy string of timm, such as rand-m9-mstd0.5, or names of policies of torchvision in
            `kanvision.data.transforms.auto_augment`.
        color_jitter: Strength of brightness, contrast and saturation jitter; off under auto_augment, except
            3a.
        random_affine: Arguments of `RandomAffine`.
        re_prob: Probability of random erasing.
        re_mode: const, rand or pixel.
        re_count: Largest number of boxes of an image.
        backend: Without effect; for images with masks only.
        **others: Further keys of `augment`, for images with masks only, which must be 0.

    Raises:
        ValueError: If crop is unknown, an option for images with masks is on, or timm does not know
            auto_augment.
    """
    if on := [f"augment.{key}={value}" for key, value in others.items() if value]:
        raise ValueError(f"{', '.join(on)}: not available for classification; legal: 0")
    if crop not in CROPS:
        raise ValueError(f"augment.crop={crop}; legal: {', '.join(CROPS)}")
    own_policy = build_torchvision_policy(auto_augment)
    jitter: Any = color_jitter or None  # with 0, timm would call the jitter for each image
    colors = [channel % spec.in_chans for channel in range(spec.bands)]
    try:
        # Flips are applied to the whole batch, between the first and the second stage of timm, as in timm.
        resized_crop, policy, _ = create_transform(
            spec.img_size,
            is_training=True,
            separate=True,
            scale=(scale[0], scale[1]),
            ratio=(ratio[0], ratio[1]),
            interpolation=interpolation,
            hflip=0.0,
            color_jitter=jitter,
            auto_augment=auto_augment if own_policy is None else None,
            mean=tuple(spec.mean[channel] for channel in colors),
            std=tuple(spec.std[channel] for channel in colors),
        )
    except (AssertionError, KeyError, ValueError, IndexError) as error:
        raise ValueError(f"augment.auto_augment={auto_augment}: timm does not know it ({error!r})") from error
    batch_ops: list[Callable[[Tensor], Tensor]] = []
    if crop == "pad" and pad:
        batch_ops.append(PadCrop(pad))
    if hflip:
        batch_ops.append(Flip(-1, hflip))
    if vflip:
        batch_ops.append(Flip(-2, vflip))
    if random_affine is not None:
        batch_ops.append(RandomAffine(**random_affine))
    erasing: Any = RandomErasing  # without type hints
    center = _build_center_crop(
        spec, "bilinear" if interpolation == "random" else interpolation, crop_pct=1.0
    )
    return BatchTransform(
        spec,
        resized_crop if crop == "random_resized" else center,
        keep_fitting=crop != "random_resized",
        batch_ops=batch_ops,
        policy=own_policy or (policy if policy.transforms else None),
        erase=erasing(re_prob, mode=re_mode, max_count=re_count, device="cpu") if re_prob else None,
    )
