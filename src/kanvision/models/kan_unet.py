"""KAN-U-Net: a U-Net of KAN convolutions.

Drokin 2024, "Kolmogorov-Arnold Convolutions" (arXiv 2407.01092), the network of its segmentation tables,
there with the Gram basis (UKAGNet) and five levels; here over any basis and of any depth.

Shapes: B batch, C channels, H W space.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kanvision.spec.models import KANUNET_MIXERS, KANUNetSize

from .conv_factory import ConvFactory
from .feature_locations import FeatureLocation, unet_feature_locations
from .heads import PixelHead
from .register_sizes import register_sizes
from .segmenter import build_segmenter, segmenter_cfg
from .unet_blocks import refuse_drop_path, run_stages

__all__ = ["SIZES", "KANUNet"]

SIZES: dict[KANUNetSize, dict[str, Any]] = {3: {"depth": 3}, 4: {"depth": 4}, 5: {"depth": 5}}
"""By the number of levels; published are 4 and 5."""
_WIDTH = 16  # of the first level
_REDUCTION = 4.0  # of bottlenecks, as published


class KANUNet(nn.Module):
    """Encoder and decoder of KAN convolutions; halving the resolution doubles the channels.

    Level i has 16 * 2^i channels. Each level of the encoder has `layers` 3x3 convolutions, the first one with
    stride 2 except at the top. Each level of the decoder has bilinear upsampling, concatenation with the
    skip, an optional mixer of all these channels, and `layers` 3x3 convolutions. The head is a plain 1x1
    convolution. Sides of images must be multiples of 2^(depth - 1); registered models, which are
    `kanvision.models.Segmenter`s, accept any size.

    Args:
        depth: Number of levels.
        layers: Convolutions of each level, in encoder and decoder.
        mixer: "conv" for no mixer, or "attention" or "focal" modulation before the convolutions of each level
            of the decoder. Attention is global within its level.
        focal_kwargs: Arguments of focal modulation (`focal_window`, `focal_level`, `focal_factor`, ...).
        width_scale: Multiplies all widths; each is rounded to a multiple of `groups`, at least one per group.
        in_chans: Number of input channels.
        num_classes: Number of classes, the output channels.
        drop_rate: Dropout of maps before the last convolution.
        drop_path_rate: Must be 0: there are no residual branches.
        **options: Arguments of `ConvFactory` (basis, layer, form, norm, groups, ...); `dim_reduction` is 4
            by default.

    Raises:
        ValueError: A value is not legal; the message names it.
    """

    def __init__(
        self,
        depth: int = 4,
        layers: int = 2,
        mixer: str = "conv",
        focal_kwargs: Mapping[str, Any] | None = None,
        width_scale: float = 1.0,
        in_chans: int = 3,
        num_classes: int = 1,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__()
        if mixer not in KANUNET_MIXERS:
            raise ValueError(f"mixer={mixer!r} is not known; legal values: {', '.join(KANUNET_MIXERS)}")
        if focal_kwargs and mixer != "focal":
            raise ValueError(
                f"focal_kwargs={dict(focal_kwargs)}: mixer={mixer!r} has no such arguments; use mixer='focal'"
            )
        for key, value, least in (("depth", depth, 2), ("layers", layers, 1)):
            if value < least:
                raise ValueError(f"{key}={value} must be at least {least}")
        refuse_drop_path(self, drop_path_rate)
        factory = ConvFactory.from_options("KANUNet", {"dim_reduction": _REDUCTION, **options})
        widths = [factory.width(_WIDTH * 2**level, width_scale) for level in range(depth)]
        self.in_chans = in_chans
        self.num_classes = num_classes
        self.stride = 2 ** (depth - 1)
        """Sides of images are multiples of this."""
        self.encoder = nn.ModuleList()
        channels = in_chans
        for level, width in enumerate(widths):
            first = factory.conv(channels, width, stride=2) if level else factory.first(channels, width)
            self.encoder.append(
                nn.Sequential(first, *(factory.conv(width, width) for _ in range(layers - 1)))
            )
            channels = width
        self.decoder = nn.ModuleList()
        for width in reversed(widths[:-1]):
            channels += width
            parts: list[nn.Module] = []
            if mixer == "attention":
                parts.append(factory.attention(channels))
            elif mixer == "focal":
                parts.append(factory.focal(channels, **(focal_kwargs or {})))
            parts.append(factory.conv(channels, width))
            parts += [factory.conv(width, width) for _ in range(layers - 1)]
            self.decoder.append(nn.Sequential(*parts))
            channels = width
        self.head = PixelHead(channels, num_classes, drop_rate)

    def feature_locations(self) -> dict[str, FeatureLocation]:
        """Return the feature maps by position."""
        return unet_feature_locations(self.encoder, self.decoder)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, num_classes, H, W)."""
        *skips, x = run_stages(x, self.encoder)
        for stage in self.decoder:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
            x = stage(torch.cat([x, skips.pop()], dim=1))
        y: Tensor = self.head(x)
        return y


register_sizes(
    __name__,
    "kan_unet_{size}",
    SIZES,
    partial(build_segmenter, KANUNet),
    segmenter_cfg("2407.01092"),
    segmenter=True,
)
