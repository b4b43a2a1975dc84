"""From pixels in [0, 1] to what the network is given.

B batch, C channels, H W space.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

__all__ = ["PREPROCESSING", "Preprocessing"]

PREPROCESSING: Final = ("default", "u_kan")


class Preprocessing:
    """Normalisation of each channel.

    default: (x - mean) / std.

    u_kan: as the published U-KAN does it, which its official weights need: channels in the order blue, green,
    red, and after (x - mean) / std a second division by 255; with ImageNet's mean and std the result lies
    between -0.0083 and 0.0104. The mean and std of red meet the blue channel there, as published.

    Args:
        mean: Mean of each channel, in units of [0, 1].
        std: Standard deviation of each channel, in units of [0, 1].
        name: One of `PREPROCESSING`.

    Raises:
        ValueError: If the name is unknown, or u_kan is to work on anything but three channels.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], name: str = "default") -> None:
        if name not in PREPROCESSING:
            raise ValueError(f"data.preprocessing={name}; legal: {', '.join(PREPROCESSING)}")
        if name == "u_kan" and len(mean) != 3:
            raise ValueError(
                f"data.preprocessing=u_kan is for colour images, but data.in_chans={len(mean)}; legal: 3"
            )
        self.name = name
        factor = 255.0 if name == "u_kan" else 1.0
        self.mean = tuple(float(value) for value in mean)
        """Together with `std` and the order of the channels, undoes the normalisation: x = y std + mean."""
        self.std = tuple(float(value) * factor for value in std)
        self._mean = torch.tensor(self.mean, dtype=torch.float32)[:, None, None]
        self._std = torch.tensor(self.std, dtype=torch.float32)[:, None, None]

    @property
    def neutral(self) -> Tensor:
        """(C,) pixel in units of [0, 1] that becomes 0."""
        mean = torch.tensor(self.mean, dtype=torch.float32)
        return mean.flip(0) if self.name == "u_kan" else mean

    def __call__(self, images: Tensor) -> Tensor:
        """(..., C, H, W) float32 in units of [0, 1] to a new tensor of the same shape."""
        ordered = images.flip(-3) if self.name == "u_kan" else images
        return (ordered - self._mean.to(images)).div_(self._std.to(images))
