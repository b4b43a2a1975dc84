"""From pixels in [0, 1] to what the network is given.

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
    """Size and normalization of images, and the size of their masks.

    default: pixel centers of image and mask stay together, and (x - mean) / std.

    u_kan: every number as the published code of U-KAN has it, which its official weights need. Images are
    resized by OpenCV in 8 bits, and masks by the rule of its INTER_NEAREST, which shifts them by up to half a
    stored pixel against their images. Channels are in the order blue, green, red, and after (x - mean) / std
    comes a second division by 255; with ImageNet's mean and std the result lies between -0.0083 and 0.0104.
    The mean and std of red meet the blue channel there, as published.

    Args:
        mean: Mean of each channel, in units of [0, 1].
        std: Standard deviation of each channel, in units of [0, 1].
        name: One of `PREPROCESSINGS`.

    Raises:
        ValueError: If the name is unknown, or u_kan is to work on anything but three channels.
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
        """Together with `std` and the order of the channels, undoes the normalization: x = y std + mean."""
        self.std = tuple(float(value) * factor for value in std)
        self._mean, self._std = (
            torch.tensor(tuple(values), dtype=torch.float32)[:, None, None] for values in (mean, std)
        )

    @property
    def neutral(self) -> Tensor:
        """(C,) pixel in units of [0, 1] that becomes 0."""
        mean = torch.tensor(self.mean, dtype=torch.float32)
        return mean.flip(0) if self.name == "u_kan" else mean

    def __call__(self, images: Tensor) -> Tensor:
        """(..., C, H, W) float32 in units of [0, 1] to a new tensor of the same shape."""
        mean, std = self._mean.to(images), self._std.to(images)
        if self.name != "u_kan":
            return (images - mean).div_(std)
        # Albumentations' steps one by one: another order of the factors would round otherwise.
        pixels = images.flip(-3).mul_(255)
        return pixels.sub_(mean * 255).mul_((std * 255).reciprocal()).div_(255)

    def resize_image(
        self, image: Tensor, size: tuple[int, int], interpolation: Interpolation = "bilinear"
    ) -> Tensor:
        """(C, H, W) float32 in units of [0, 1] to (C, *size)."""
        resize = resize_image_as_opencv if self.name == "u_kan" else resize_image
        return resize(image, size, interpolation)

    def resize_labels(self, labels: Tensor, size: tuple[int, int]) -> Tensor:
        """(L, H, W) of any type to (L, *size)."""
        resize = resize_labels_as_opencv if self.name == "u_kan" else resize_labels
        return resize(labels, size)
