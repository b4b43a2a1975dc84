"""ResKANet: residual blocks of KAN convolutions.

Drokin 2024, "Kolmogorov-Arnold Convolutions" (arXiv 2407.01092), after He et al. 2016, "Deep Residual
Learning for Image Recognition" (arXiv 1512.03385), over any basis and at an eighth of the width. A basic
block has a 3x3 and a 1x1 convolution, where ResNet has two 3x3 convolutions, and no activation follows the
sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, NamedTuple

from timm.layers import DropPath
from torch import Tensor, nn

from kanvision.spec.models import ResKANSize, ResKANStem

from .backbone import KANBackbone, Stage, build_backbone, conv_cfg, drop_path_rates
from .conv_factory import ConvFactory
from .register_sizes import register_sizes

__all__ = ["BLOCKS", "SIZES", "STEMS", "BasicBlock", "BottleneckBlock", "ResKAN"]

WIDTHS = (8, 16, 32, 64)
"""Planes of each stage; a bottleneck block has four times as many output channels."""
_STEM_REDUCTION = 4  # of the bottleneck form of the stem


class _Block(nn.Module):
    """Residual branch and a shortcut of the same width and resolution."""

    expansion: ClassVar[int] = 1

    def __init__(
        self, factory: ConvFactory, in_channels: int, out_channels: int, stride: int, drop_path: float
    ) -> None:
        super().__init__()
        straight = stride == 1 and in_channels == out_channels
        shortcut = None if straight else factory.conv(in_channels, out_channels, 1, stride=stride)
        self.downsample = shortcut or nn.Identity()
        self.drop_path = DropPath(drop_path)

    def _branch(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, O, H', W')."""
        y: Tensor = self.drop_path(self._branch(x)) + self.downsample(x)
        return y


class BasicBlock(_Block):
    """Residual block x + conv1x1(conv3x3(x)).

    Args:
        factory: Factory of the convolutions.
        in_channels: Number of input channels.
        planes: Channels of the output.
        stride: Stride of the 3x3 convolution.
        drop_path: Rate of stochastic depth, which omits the branch for a sample.
    """

    def __init__(
        self, factory: ConvFactory, in_channels: int, planes: int, stride: int = 1, drop_path: float = 0.0
    ) -> None:
        super().__init__(factory, in_channels, planes, stride, drop_path)
        self.conv1 = factory.conv(in_channels, planes, 3, stride=stride)
        self.conv2 = factory.conv(planes, planes, 1)

    def _branch(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv2(self.conv1(x))
        return y


class BottleneckBlock(_Block):
    """Residual block x + conv1x1(conv3x3(conv1x1(x))) with a quarter of the channels in the 3x3 convolution.

    Args:
        factory: Factory of the convolutions.
        in_channels: Number of input channels.
        planes: A quarter of the channels of the output.
        stride: Stride of the 3x3 convolution.
        drop_path: Rate of stochastic depth, which omits the branch for a sample.
    """

    expansion = 4

    def __init__(
        self, factory: ConvFactory, in_channels: int, planes: int, stride: int = 1, drop_path: float = 0.0
    ) -> None:
        super().__init__(factory, in_channels, planes * self.expansion, stride, drop_path)
        width = planes * factory.groups
        self.conv1 = factory.conv(in_channels, width, 1)
        self.conv2 = factory.conv(width, width, 3, stride=stride)
        self.conv3 = factory.conv(width, planes * self.expansion, 1)

    def _branch(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv3(self.conv2(self.conv1(x)))
        return y


BLOCKS: dict[str, type[BasicBlock | BottleneckBlock]] = {"basic": BasicBlock, "bottleneck": BottleneckBlock}
SIZES: dict[ResKANSize, dict[str, Any]] = {
    18: {"block": "basic", "depths": (2, 2, 2, 2)},
    34: {"block": "basic", "depths": (3, 4, 6, 3)},
    50: {"block": "bottleneck", "depths": (3, 4, 6, 3)},
    101: {"block": "bottleneck", "depths": (3, 4, 23, 3)},
    152: {"block": "bottleneck", "depths": (3, 8, 36, 3)},
}
"""Kind of blocks, and their number in each stage, by size."""


class _Stem(NamedTuple):
    kernel_size: int
    stride: int
    pool: bool


STEMS: dict[ResKANStem, _Stem] = {
    "plain": _Stem(7, 2, True),
    "64p": _Stem(3, 1, True),
    "32p": _Stem(3, 1, False),
}
"""First convolution: that of ResNet, or one for images of 64 or 32 pixels."""


class ResKAN(KANBackbone):
    """ResNet of KAN convolutions.

    Args:
        block: "basic" or "bottleneck".
        depths: Number of blocks of each stage.
        stem: One of `STEMS`.
        stem_width: Output channels of the stem; None is 8, or 16 with mixtures of experts, as published.
        stem_norm: Norm of the stem, "same" for that of the stages. Published networks with other bases than
            Gram have instance norm in the stem and batch norm in the stages.
        width_scale: Multiplies all widths; each is rounded to a multiple of `groups`, at least one per group.
        in_chans: Number of input channels.
        drop_path_rate: Stochastic depth, rising linearly to this rate at the last block.
        **options: Arguments of `ConvFactory` (basis, layer, form, norm, groups, ...) and of `KANBackbone`
            (num_classes, head, drop_rate, ...).

    Raises:
        ValueError: A value is not legal; the message names it.
    """

    has_branches = True

    def __init__(
        self,
        block: str = "basic",
        depths: Sequence[int] = (2, 2, 2, 2),
        stem: ResKANStem = "plain",
        stem_width: int | None = None,
        stem_norm: str | None = "same",
        width_scale: float = 1.0,
        in_chans: int = 3,
        drop_path_rate: float = 0.0,
        **options: Any,
    ) -> None:
        for key, value, legal in (("block", block, BLOCKS), ("stem", stem, STEMS)):
            if value not in legal:
                raise ValueError(f"{key}={value!r} is not known; legal values: {', '.join(legal)}")
        if len(depths) != len(WIDTHS):
            raise ValueError(f"depths={tuple(depths)} must have one number for each of {len(WIDTHS)} stages")
        factory, options = ConvFactory.split(options)
        make_block = BLOCKS[block]
        kernel_size, reduction, pool = STEMS[stem]
        usual = WIDTHS[1] if factory.form.startswith("moe") else WIDTHS[0]
        channels = factory.width(stem_width or usual, width_scale)
        of_stem = factory if stem_norm == "same" else replace(factory, norm=stem_norm)
        layers: list[nn.Module] = [
            of_stem.first(in_chans, channels, kernel_size, stride=reduction, dim_reduction=_STEM_REDUCTION)
        ]
        parts: list[Stage] = []
        if pool:
            parts.append(Stage(layers, channels, reduction))
            layers, reduction = [nn.MaxPool2d(3, stride=2, padding=1)], 2 * reduction
        rates = iter(drop_path_rates(drop_path_rate, sum(depths)))
        for index, (width, depth) in enumerate(zip(WIDTHS, depths, strict=True)):
            planes = factory.width(width, width_scale)
            for number in range(depth):
                stride = 2 if index and not number else 1
                layers.append(make_block(factory, channels, planes, stride, next(rates)))
                channels, reduction = planes * make_block.expansion, reduction * stride
            parts.append(Stage(layers, channels, reduction))
            layers = []
        super().__init__(parts, factory=factory, in_chans=in_chans, drop_path_rate=drop_path_rate, **options)


register_sizes(__name__, "res_kan_{size}", SIZES, partial(build_backbone, ResKAN), conv_cfg())
