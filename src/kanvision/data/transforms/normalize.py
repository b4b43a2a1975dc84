"""Resizing and normalization of images and masks, by default and as published for U-KAN.

B batch, C channels, H W space.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kanvision.spec.data import PREPROCESSINGS, Interpolation, PreprocessingName

from .resize import resize_image, resize_image_as_opencv, resize_labels, resize_labels_as_opencv

__all__ = ["Preprocessing"]


class Preprocessing:
    """Resizing and normalization of images, and resizing of their masks.

    default: pixel centers of image and mask stay aligned, and images become (x - mean) / std.

    u_kan: equal to the published code of U-KAN in every number, as its official weights need. Images are
    resized by OpenCV in 8 bits, and masks by the rule of its INTER_NEAREST, which shifts them by up to half a
    stored pixel against their images. Channels are in the order blue, green, red, and (x - mean) / std is
    divided by 255 once more; with mean and std of ImageNet the result is between -0.0083 and 0.0104. Mean and
    std of red apply to the blue channel, as published.

    Args:
        mean: Mean of each channel, in units of [0, 1].
        std: Standard deviation of each channel, in units of [0, 1].
        name: One of `PREPROCESSINGS`.

    Raises:
        ValueError: If the name is unknown, or u_kan has other than three channels.
    """

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], name: PreprocessingName = "default"
    ) -> None:
        if name not in PREPROCESSINGS:
            raise ValueError(f"data.preprocessing={name}; legal: {', '.join(PREPROCESSINGS)}")
        if name == "u_kan" and len(mean) != 3:
            raise ValueError(
                f"data.preprocessing=u_kan is for color images, but data.in_chans={len(mean)}; legal: 3"
            )
        self.name = name
        factor = 255.0 if name == "u_kan" else 1.0
        self.mean = tuple(float(value) for value in mean)
        """Mean of each channel in their order, which undoes the normalization: x = y std + mean."""
        self.std = tuple(float(value) * factor for value in std)
        self._mean, self._std = (
            torch.tensor(tuple(values), dtype=torch.float32)[:, None, None] for values in (mean, std)
        )

    @property
    def neutral(self) -> Tensor:
        """Pixel in units of [0, 1] that becomes 0, (C,)."""
        mean = torch.tensor(self.mean, dtype=torch.float32)
        return mean.flip(0) if self.name == "u_kan" else mean

    def __call__(self, images: Tensor) -> Tensor:
        """Return normalized images, (..., C, H, W), from float32 images in units of [0, 1]."""
        mean, std = self._mean.to(images), self._std.to(images)
        if self.name != "u_kan":
            return (images - mean).div_(std)
        # The steps of albumentations one by one, because another order of the factors rounds differently.
        pixels = images.flip(-3).mul_(255)
        return pixels.sub_(mean * 255).mul_((std * 255).reciprocal()).div_(255)

    def resize_image(
        self, image: Tensor, size: tuple[int, int], interpolation: Interpolation = "bilinear"
    ) -> Tensor:
        """Resize an image, (C, H, W) float32 in units of [0, 1], to (C, *size)."""
        resize = resize_image_as_opencv if self.name == "u_kan" else resize_image
        return resize(image, size, interpolation)

    def resize_labels(self, labels: Tensor, size: tuple[int, int]) -> Tensor:
        """Resize labels, (L, H, W) of any type, to (L, *size)."""
        resize = resize_labels_as_opencv if self.name == "u_kan" else resize_labels
        return resize(labels, size)
