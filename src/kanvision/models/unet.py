"""U-Net: the plain baseline of the segmentation networks.

Ronneberger, Fischer and Brox 2015, "U-Net: Convolutional Networks for Biomedical Image Segmentation" (arXiv
1505.04597), with later conventions: convolutions keep the size of the image, batch norm follows each, and
upsampling may be bilinear. The size "base" is the baseline of the crop-field paper (arXiv 2408.07040), and
"xlarge" that of the U-KAN paper (arXiv 2406.02918).

Shapes: B batch, C channels, H W space.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from kanvision.layers.recompute import recompute
from kanvision.spec.models import UNetSize

from .feature_locations import FeatureLocation, unet_feature_locations
from .heads import PixelHead
from .register_sizes import register_sizes
from .segmenter import build_segmenter, segmenter_cfg
from .unet_blocks import refuse_drop_path, run_stages

__all__ = ["SIZES", "UPSAMPLINGS", "ConvPair", "UNet", "scaled_widths"]

SIZES: dict[UNetSize, dict[str, Any]] = {
    "tiny": {"widths": (8, 16, 32, 64, 64)},  # not published, for CPUs
    "small": {"widths": (16, 32, 64, 128, 128)},  # not published
    "base": {"widths": (64, 128, 256, 512, 512)},  # baseline of the crop-field paper
    "large": {"widths": (64, 128, 256, 512, 1024), "upsampling": "transposed"},  # published widths
    # baseline of the U-KAN paper
    "xlarge": {"widths": (64, 128, 256, 512, 1024), "upsampling": "resize", "bias": True},
}
UPSAMPLINGS = ("bilinear", "transposed", "resize")


def scaled_widths(widths: Sequence[int], scale: float) -> list[int]:
    """Return every width times the scale, rounded, at least 1."""
    return [max(1, round(width * scale)) for width in widths]


class ConvPair(nn.Sequential):
    """Two 3x3 convolutions with batch norm and ReLU, (B, C, H, W) -> (B, O, H, W).

    With `checkpoint`, all of it is computed again in the backward pass.

    Args:
        in_channels: Number of input channels, C.
        inner_channels: Number of channels between the two convolutions.
        out_channels: Number of output channels, O.
        bias: Give the convolutions biases, which have no effect because of the norms.
    """

    checkpoint = False

    def __init__(
        self, in_channels: int, inner_channels: int, out_channels: int, *, bias: bool = False
    ) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for index, (fan_in, width) in enumerate(
            pairwise((in_channels, inner_channels, out_channels)), start=1
        ):
            layers[f"conv{index}"] = nn.Conv2d(fan_in, width, 3, padding=1, bias=bias)
            layers[f"norm{index}"] = nn.BatchNorm2d(width)
            layers[f"act{index}"] = nn.ReLU()
        super().__init__(layers)

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, O, H, W)."""
        if self.checkpoint and self.training:
            return recompute(self._convolve, input, part=self)
        return self._convolve(input)

    def _convolve(self, x: Tensor) -> Tensor:
        for layer in self:
            x = layer(x)
        return x


class UpStage(nn.Module):
    """Upsampling by two, concatenation with a skip connection, and two convolutions.

    Args:
        in_channels: Number of input channels, C.
        skip_channels: Number of channels of the skip, S.
        out_channels: Number of output channels, O.
        upsampling: One of `UPSAMPLINGS`. "bilinear" aligns corners, and the inner width is half of all
            channels; "transposed" is a transposed 2x2 convolution to the width of the skip, as in the paper;
            "resize" repeats each pixel four times and applies a 3x3 convolution, batch norm and ReLU to the
            width of the skip.
        bias: Give the convolutions before norms biases.
        gate: Module that maps the upsampled input and the skip, both (B, S, 2H, 2W), to a new skip; None
            keeps the skip.
    """

    def __init__(
        self,
        in_channels: int,
        skip_channels: int,
        out_channels: int,
        upsampling: str,
        bias: bool = False,
        gate: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.up: nn.Module
        if upsampling == "bilinear":
            self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            channels = in_channels + skip_channels
            self.convs = ConvPair(channels, channels // 2, out_channels, bias=bias)
        else:
            if upsampling == "transposed":
                self.up = nn.ConvTranspose2d(in_channels, skip_channels, 2, stride=2)
            else:
                self.up = nn.Sequential(
                    nn.Upsample(scale_factor=2),
                    nn.Conv2d(in_channels, skip_channels, 3, padding=1, bias=bias),
                    nn.BatchNorm2d(skip_channels),
                    nn.ReLU(),
                )
            self.convs = ConvPair(2 * skip_channels, out_channels, out_channels, bias=bias)
        self.gate = gate

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map (B, C, H, W) and a skip (B, S, 2H, 2W) to (B, O, 2H, 2W)."""
        x = self.up(x)
        if self.gate is not None:
            skip = self.gate(x, skip)
        y: Tensor = self.convs(torch.cat([skip, x], dim=1))
        return y


class UNet(nn.Module):
    """Encoder with max pooling and decoder with concatenated skip connections.

    Args:
        widths: Channels of each stage, from the full resolution down.
        upsampling: One of `UPSAMPLINGS`, see `UpStage`; bilinear stages end in the width of the next skip.
        bias: Give the convolutions before norms biases, which have no effect.
        width_scale: Multiplies all widths.
        in_chans: Number of input channels.
        num_classes: Number of classes, the output channels.
        drop_rate: Dropout of maps before the last convolution.
        drop_path_rate: Must be 0: there are no residual branches.

    Raises:
        ValueError: A value is not legal; the message names it.
    """

    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        upsampling: str = "bilinear",
        bias: bool = False,
        width_scale: float = 1.0,
        in_chans: int = 3,
        num_classes: int = 1,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if upsampling not in UPSAMPLINGS:
            legal = ", ".join(UPSAMPLINGS)
            raise ValueError(f"upsampling={upsampling!r} is not known; legal values: {legal}")
        if len(widths) < 2:
            raise ValueError(f"widths={tuple(widths)} must have at least two stages")
        refuse_drop_path(self, drop_path_rate)
        sizes = scaled_widths(widths, width_scale)
        self.in_chans = in_chans
        self.num_classes = num_classes
        self.stride = 2 ** (len(sizes) - 1)
        """Sides of images are multiples of this."""
        self.encoder = nn.ModuleList(
            ConvPair(fan_in, width, width, bias=bias) for fan_in, width in pairwise([in_chans, *sizes])
        )
        self.pool = nn.MaxPool2d(2)
        channels = sizes[-1]
        self.decoder = nn.ModuleList()
        for level in reversed(range(len(sizes) - 1)):
            out_channels = sizes[max(level - 1, 0) if upsampling == "bilinear" else level]
            skip = sizes[level]
            self.decoder.append(
                UpStage(channels, skip, out_channels, upsampling, bias=bias, gate=self.gate(skip))
            )
            channels = out_channels
        self.head = PixelHead(channels, num_classes, drop_rate)

    def gate(self, channels: int) -> nn.Module | None:
        """Build the gate of a skip connection, see `UpStage`; None for none."""
        return None

    def feature_locations(self) -> dict[str, FeatureLocation]:
        """Return the feature maps by position."""
        return unet_feature_locations(self.encoder, self.decoder)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, num_classes, H, W)."""
        *skips, x = run_stages(x, self.encoder, self.pool)
        for stage in self.decoder:
            x = stage(x, skips.pop())
        y: Tensor = self.head(x)
        return y


register_sizes(
    __name__,
    "unet_{size}",
    SIZES,
    partial(build_segmenter, UNet),
    segmenter_cfg("1505.04597"),
    segmenter=True,
)
