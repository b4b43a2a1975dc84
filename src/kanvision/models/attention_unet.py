"""Attention U-Net: a U-Net that weights each pixel of its skip connections.

Oktay et al. 2018, "Attention U-Net: Learning Where to Look for the Pancreas" (arXiv 1804.03999), in the 2-d
form of widespread code that papers compare with: it gates after upsampling, at the resolution of the skip.

Shapes: B batch, C channels, H W space.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kanvision.spec.models import AttentionUNetSize

from .register_sizes import register_sizes
from .segmenter import build_segmenter, segmenter_cfg
from .unet import UNet

__all__ = ["SIZES", "AttentionGate", "AttentionUNet"]

SIZES: dict[AttentionUNetSize, dict[str, Any]] = {
    "tiny": {"widths": (8, 16, 32, 64, 128)},  # not published, for CPUs
    "base": {"widths": (64, 128, 256, 512, 1024)},  # the network of the U-KAN paper's tables
}


class AttentionGate(nn.Module):
    """Gate skip * sigmoid(norm(psi(relu(norm(W_x x) + norm(W_s skip))))), with one weight for each pixel.

    Args:
        channels: Number of channels of both inputs, C; the maps inside have half as many.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // 2)

        def pointwise(fan_in: int, fan_out: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(fan_in, fan_out, 1), nn.BatchNorm2d(fan_out))

        self.of_signal = pointwise(channels, inner)
        self.of_skip = pointwise(channels, inner)
        self.weight = pointwise(inner, 1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map decoder and skip maps, both (B, C, H, W), to the weighted skip (B, C, H, W)."""
        y: Tensor = skip * self.weight(torch.relu(self.of_signal(x) + self.of_skip(skip))).sigmoid()
        return y


class AttentionUNet(UNet):
    """`UNet` that upsamples by resizing and a convolution, with an `AttentionGate` on each skip.

    Args:
        widths: Channels of each stage, from the full resolution down.
        **others: `width_scale`, `in_chans`, `num_classes`, `drop_rate` and `drop_path_rate`, see `UNet`.

    Raises:
        ValueError: A value is not legal; the message names it.
    """

    def __init__(self, widths: Sequence[int] = (64, 128, 256, 512, 1024), **others: Any) -> None:
        super().__init__(widths, upsampling="resize", bias=True, **others)

    def gate(self, channels: int) -> nn.Module:
        """Build the gate of a skip connection."""
        return AttentionGate(channels)


register_sizes(
    __name__,
    "attention_unet_{size}",
    SIZES,
    partial(build_segmenter, AttentionUNet),
    segmenter_cfg("1804.03999"),
    segmenter=True,
)
