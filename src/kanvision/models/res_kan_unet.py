"""ResKAN-U-Net: a U-Net of residual blocks of KAN convolutions.

Drokin 2024, "Kolmogorov-Arnold Convolutions" (arXiv 2407.01092), there UKANet, with the blocks of ResKANet at
an eighth of the width of ResNet. Published networks drop the arguments of their layers (norm, degree,
grid, dropout) in every block of a stage but the first; here all blocks have them.

Shapes: B batch, C channels, H W space.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kanvision.spec.models import ResKANUNetSize

from .backbone import drop_path_rates
from .conv_factory import ConvFactory
from .feature_locations import FeatureLocation, unet_feature_locations
from .heads import PixelHead
from .register_sizes import register_sizes
from .res_kan import BLOCKS, WIDTHS
from .segmenter import build_segmenter, segmenter_cfg
from .unet_blocks import run_stages

__all__ = ["SIZES", "ResKANUNet"]

SIZES: dict[ResKANUNetSize, dict[str, Any]] = {18: {"depths": (2, 2, 2, 2)}, 34: {"depths": (3, 4, 6, 3)}}
"""Number of blocks of each stage, after the ResNet of that size; published is 18."""
_STEM_REDUCTION = 4  # of the bottleneck form of the stem and of the merging convolutions, as published


class ResKANUNet(nn.Module):
    """Encoder and decoder of residual stages with concatenated skip connections.

    A 3x3 stem keeps the resolution. The encoder has stages of 8, 16, 32 and 64 channels, the last three with
    stride 2. The decoder has another stage at the lowest resolution, then three times bilinear upsampling,
    concatenation with the skip, a 3x3 convolution to the width of the skip, and a stage. The head is a plain
    1x1 convolution. Sides of images must be multiples of 8; registered models, which are
    `kanvision.models.Segmenter`s, accept any size.

    Args:
        block: Kind of the blocks, a key of `kanvision.models.res_kan.BLOCKS`. Bottleneck blocks, which
            the published code cannot use, have four times as many output channels.
        depths: Number of blocks of each stage, in encoder and decoder.
        width_scale: Multiplies all widths; each is rounded to a multiple of `groups`, at least one per group.
        in_chans: Number of input channels.
        num_classes: Number of classes, the output channels.
        drop_rate: Dropout of maps before the last convolution.
        drop_path_rate: Stochastic depth, rising linearly to this rate at the last block.
        **options: Arguments of `ConvFactory` (basis, layer, form, norm, groups, ...).

    Raises:
        ValueError: A value is not legal; the message names it.
    """

    stride = 2 ** (len(WIDTHS) - 1)
    """Sides of images are multiples of this."""

    def __init__(
        self,
        block: str = "basic",
        depths: Sequence[int] = (2, 2, 2, 2),
        width_scale: float = 1.0,
        in_chans: int = 3,
        num_classes: int = 1,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__()
        if block not in BLOCKS:
            raise ValueError(f"block={block!r} is not known; legal values: {', '.join(BLOCKS)}")
        if len(depths) != len(WIDTHS):
            raise ValueError(f"depths={tuple(depths)} must have one number for each of {len(WIDTHS)} stages")
        factory = ConvFactory.from_options("ResKANUNet", options)
        make_block = BLOCKS[block]
        rates = iter(drop_path_rates(drop_path_rate, 2 * sum(depths)))
        widths = [factory.width(width, width_scale) for width in WIDTHS]
        outputs = [width * make_block.expansion for width in widths]

        def stage(level: int, channels: int, stride: int = 1) -> nn.Sequential:
            """Build the blocks of a level for an input of `channels` channels."""
            blocks = []
            for number in range(depths[level]):
                step = 1 if number else stride
                blocks.append(make_block(factory, channels, widths[level], step, next(rates)))
                channels = outputs[level]
            return nn.Sequential(*blocks)

        self.in_chans = in_chans
        self.num_classes = num_classes
        self.stem = factory.first(in_chans, widths[0], dim_reduction=_STEM_REDUCTION)
        inputs = [widths[0], *outputs[:-1]]
        self.encoder = nn.ModuleList(
            stage(level, channels, 2 if level else 1) for level, channels in enumerate(inputs)
        )
        self.middle = stage(len(widths) - 1, outputs[-1])
        self.merges = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for level in reversed(range(len(widths) - 1)):
            self.merges.append(
                factory.conv(
                    outputs[level + 1] + outputs[level], outputs[level], dim_reduction=_STEM_REDUCTION
                )
            )
            self.decoder.append(stage(level, outputs[level]))
        self.head = PixelHead(outputs[0], num_classes, drop_rate)

    def feature_locations(self) -> dict[str, FeatureLocation]:
        """Return the feature maps by position."""
        return unet_feature_locations(self.encoder, self.decoder, self.middle)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, num_classes, H, W)."""
        *skips, x = run_stages(self.stem(x), self.encoder)
        x = self.middle(x)
        for merge, stage in zip(self.merges, self.decoder, strict=True):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
            x = stage(merge(torch.cat([x, skips.pop()], dim=1)))
        y: Tensor = self.head(x)
        return y


register_sizes(
    __name__,
    "res_kan_unet_{size}",
    SIZES,
    partial(build_segmenter, ResKANUNet),
    segmenter_cfg("2407.01092"),
    segmenter=True,
)
