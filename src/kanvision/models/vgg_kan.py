"""VGG-KAN: stages of 3x3 KAN convolutions with max pooling between them.

Drokin 2024, "Kolmogorov-Arnold Convolutions" (arXiv 2407.01092), after Simonyan and Zisserman 2015, "Very
Deep Convolutional Networks for Large-Scale Image Recognition" (arXiv 1409.1556), over any basis. The
published network pools to 7x7 before its classifier (`pool_size=7`); its ImageNet checkpoints pool to 1x1
(`pool_size=1`), at `width_scale=2`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn

from kanvision.spec.models import VGGKANSize, VGGKANVersion

from .backbone import KANBackbone, Stage, build_backbone, conv_cfg, half_pool
from .conv_factory import ConvFactory
from .register_sizes import register_sizes

__all__ = ["DEPTHS", "VERSIONS", "VGGKAN", "WIDTHS"]

WIDTHS = (16, 32, 64, 128, 128)
"""Output channels of the convolutions, by stage."""
DEPTHS: dict[VGGKANSize, tuple[int, ...]] = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
"""Number of convolutions of each stage, by size."""
VERSIONS: dict[VGGKANVersion, tuple[int, ...]] = {
    "v1": (),
    "v2": (128, 128),
    "v3": (128, 256),
    "v4": (256, 256),
}
"""Output channels of the convolutions of a sixth stage, by version."""


class VGGKAN(KANBackbone):
    """VGG of KAN convolutions.

    Args:
        depths: Number of convolutions of each stage.
        version: Sixth stage, one of `VERSIONS`.
        pool_attention: Add self-attention before the last two poolings.
        last_attention: Replace the last convolution by self-attention.
        attention_reduction: Number of channels divided by the width of the attention; None keeps it.
        width_scale: Multiplies all widths; each is rounded to a multiple of `groups`, at least one per group.
        in_chans: Number of input channels.
        **options: Arguments of `ConvFactory` (basis, layer, form, norm, groups, ...) and of `KANBackbone`
            (num_classes, pool_size, head, drop_rate, ...).

    Raises:
        ValueError: A value is not legal; the message names it.
    """

    def __init__(
        self,
        depths: Sequence[int] = DEPTHS[11],
        version: VGGKANVersion = "v1",
        pool_attention: bool = False,
        last_attention: bool = False,
        attention_reduction: float | None = None,
        width_scale: float = 1.0,
        in_chans: int = 3,
        **options: Any,
    ) -> None:
        if version not in VERSIONS:
            raise ValueError(f"version={version!r} is not known; legal values: {', '.join(VERSIONS)}")
        if len(depths) != len(WIDTHS):
            raise ValueError(f"depths={tuple(depths)} must have one number for each of {len(WIDTHS)} stages")
        factory, options = ConvFactory.split(options)
        widths = [(width,) * depth for width, depth in zip(WIDTHS, depths, strict=True)]
        if VERSIONS[version]:
            widths.append(VERSIONS[version])
        parts: list[Stage] = []
        channels = in_chans
        for index, of_stage in enumerate(widths):
            layers: list[nn.Module] = [half_pool()] if index else []
            for depth, width in enumerate(of_stage):
                if last_attention and index == len(widths) - 1 and depth == len(of_stage) - 1:
                    layers.append(factory.attention(channels, attention_reduction))
                    continue
                make = factory.conv if index or depth else factory.first
                out_channels = factory.width(width, width_scale)
                layers.append(make(channels, out_channels))
                channels = out_channels
            if pool_attention and len(widths) - 3 <= index < len(widths) - 1:
                layers.append(factory.attention(channels, attention_reduction))
            parts.append(Stage(layers, channels, 2**index))
        super().__init__(parts, factory=factory, in_chans=in_chans, **options)


register_sizes(
    __name__,
    "vgg_kan_{size}",
    {size: {"depths": depths} for size, depths in DEPTHS.items()},
    partial(build_backbone, VGGKAN),
    conv_cfg(),
)
