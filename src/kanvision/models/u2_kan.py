"""U2-KAN: a U-Net whose stages are U-Nets of KAN convolutions, with deep supervision.

Drokin 2024, "Kolmogorov-Arnold Convolutions" (arXiv 2407.01092), there U2KANet, after Qin et al. 2020,
"U2-Net: Going Deeper with Nested U-Structure for Salient Object Detection" (arXiv 2005.09007); over any
basis.

Shapes: B batch, C channels, H W space.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kanvision.spec.models import U2KANSize

from .conv_factory import ConvFactory
from .feature_locations import FeatureLocation, unet_feature_locations
from .register_sizes import register_sizes
from .segmenter import build_segmenter, segmenter_cfg
from .unet_blocks import refuse_drop_path, run_stages

__all__ = ["SIZES", "U2KAN", "DilatedU", "NestedU"]

Make = Callable[..., nn.Module]


class _Stage(NamedTuple):
    """Depth, inner width and outer width of the U-Net of a stage; `flat` has dilation instead of pooling."""

    depth: int
    inner: int
    outer: int
    flat: bool = False


class _Size(NamedTuple):
    """Stages of the encoder, the deepest last, and of the decoder, the finest last."""

    encoder: tuple[_Stage, ...]
    decoder: tuple[_Stage, ...]


def _size(encoder: tuple[tuple[int, int], ...], decoder: tuple[tuple[int, int], ...]) -> _Size:
    depths = ((7, False), (6, False), (5, False), (4, False), (4, True), (4, True))
    down = [_Stage(depth, *widths, flat) for (depth, flat), widths in zip(depths, encoder, strict=True)]
    up = [_Stage(depth, *widths, flat) for (depth, flat), widths in zip(depths[-2::-1], decoder, strict=True)]
    return _Size(tuple(down), tuple(up))


SIZES: dict[U2KANSize, _Size] = {
    "small": _size(((4, 16),) * 6, ((4, 16),) * 5),
    "full": _size(
        ((8, 16), (8, 32), (16, 64), (32, 128), (64, 128), (64, 128)),
        ((64, 128), (32, 64), (16, 32), (8, 16), (4, 16)),
    ),
}
"""Stages by size; inner and outer widths are a quarter and an eighth of those of U2-Net."""
_REDUCTION = 8.0  # of bottlenecks, as published


class NestedU(nn.Module):
    """U-Net with a shortcut around it, h + U(h) with h = first(x), at constant resolution.

    The encoder has `depth` convolutions with max pooling after all but the last two; the last one is dilated
    instead. The decoder has `depth` - 1 convolutions, each on the map of the next lower level and the skip.

    Args:
        make: Function of input channels, output channels and `dilation` that builds a 3x3 convolution.
        make_first: Function that builds the first convolution.
        depth: Number of encoder convolutions, at least 3.
        in_channels: Number of input channels.
        inner: Number of channels inside the U-Net.
        outer: Number of output channels.
    """

    def __init__(
        self, make: Make, make_first: Make, depth: int, in_channels: int, inner: int, outer: int
    ) -> None:
        super().__init__()
        last = depth - 1
        self.first = make_first(in_channels, outer)
        self.encoder = nn.ModuleList(
            make(inner if level else outer, inner, dilation=self._reach(level, depth))
            for level in range(depth)
        )
        self.decoder = nn.ModuleList(
            make(2 * inner, inner if level else outer, dilation=self._reach(level, depth))
            for level in reversed(range(last))
        )
        self.pool = nn.MaxPool2d(2)

    def _reach(self, level: int, depth: int) -> int:
        """Return the dilation of a level."""
        return 2 if level == depth - 1 else 1

    def _pools(self, level: int) -> bool:
        """Return True if the map is halved after a level."""
        return level < len(self.encoder) - 2

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, outer, H, W)."""
        first = x = self.first(x)
        skips = []
        for level, conv in enumerate(self.encoder):
            x = conv(x)
            skips.append(x)
            if self._pools(level):
                x = self.pool(x)
        skips.pop()  # x is the map of the lowest level
        for level, conv in zip(reversed(range(len(skips))), self.decoder, strict=True):
            if self._pools(level):
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
            x = conv(torch.cat([x, skips.pop()], dim=1))
        y: Tensor = x + first
        return y


class DilatedU(NestedU):
    """`NestedU` without pooling: the dilation is 2^level instead."""

    def _reach(self, level: int, depth: int) -> int:
        return int(2**level)

    def _pools(self, level: int) -> bool:
        return False


class U2KAN(nn.Module):
    """Six nested encoder stages, five decoder stages, and logits from each decoder stage and the deepest one.

    The stages have depths 7, 6, 5, 4, 4 and 4, the last two dilated, with max pooling between them; skips are
    concatenated. A 3x3 convolution computes the logits of each of six resolutions, and a 1x1 convolution
    fuses them at the full resolution. Sides of images must be multiples of 32; registered models, which are
    `kanvision.models.Segmenter`s, accept any size.

    In training the output is a tuple of the fused logits and those of the six resolutions, all of the size of
    the image, whose losses are to be summed; in evaluation it is the fused logits.

    Args:
        size: Widths, a key of `SIZES`.
        width_scale: Multiplies all widths; each is rounded to a multiple of `groups`, at least one per group.
        first_kernel_size: Kernel size of the first convolution; 1 in the published small bottleneck form.
        in_chans: Number of input channels.
        num_classes: Number of classes, the output channels.
        drop_rate: Dropout of maps before the logits.
        drop_path_rate: Must be 0: shortcuts are around whole stages.
        **options: Arguments of `ConvFactory` (basis, layer, form, norm, groups, ...).

    Raises:
        ValueError: A value is not legal; the message names it.
    """

    stride: ClassVar[int] = 32
    """Sides of images are multiples of this."""

    def __init__(
        self,
        size: str = "full",
        width_scale: float = 1.0,
        first_kernel_size: int = 3,
        in_chans: int = 3,
        num_classes: int = 1,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__()
        if size not in SIZES:
            raise ValueError(f"size={size!r} is not known; legal values: {', '.join(SIZES)}")
        if first_kernel_size % 2 == 0:
            raise ValueError(f"first_kernel_size={first_kernel_size} must be odd")
        if num_classes < 1:
            raise ValueError(f"num_classes={num_classes} must be at least 1")
        refuse_drop_path(self, drop_path_rate)
        factory = ConvFactory.from_options("U2KAN", {"dim_reduction": _REDUCTION, **options})

        def first(in_channels: int, out_channels: int) -> nn.Module:
            return factory.first(in_channels, out_channels, first_kernel_size)

        def stage(shape: _Stage, in_channels: int, make_first: Make = factory.conv) -> NestedU:
            cls = DilatedU if shape.flat else NestedU
            widths = (factory.width(width, width_scale) for width in (shape.inner, shape.outer))
            return cls(factory.conv, make_first, shape.depth, in_channels, *widths)

        down, up = SIZES[size]
        below = [factory.width(shape.outer, width_scale) for shape in down]
        above = [factory.width(shape.outer, width_scale) for shape in up]
        self.in_chans = in_chans
        self.num_classes = num_classes
        self.pool = nn.MaxPool2d(2)
        self.encoder = nn.ModuleList(
            [
                stage(down[0], in_chans, first),
                *(stage(shape, width) for shape, width in zip(down[1:], below, strict=False)),
            ]
        )
        joined = [
            lower + skip for lower, skip in zip([below[-1], *above], reversed(below[:-1]), strict=False)
        ]
        self.decoder = nn.ModuleList(stage(shape, width) for shape, width in zip(up, joined, strict=True))
        self.drop = nn.Dropout2d(drop_rate)
        sides = [*reversed(above), below[-1]]  # fine ones first
        self.sides = nn.ModuleList(nn.Conv2d(width, num_classes, 3, padding=1) for width in sides)
        self.head = nn.Conv2d(len(sides) * num_classes, num_classes, 1)

    def feature_locations(self) -> dict[str, FeatureLocation]:
        """Return the feature maps by position."""
        return unet_feature_locations(self.encoder, self.decoder)

    def forward(self, x: Tensor) -> Any:
        """Map images (B, C, H, W) to logits (B, num_classes, H, W), or in training to a tuple of logits."""
        size = x.shape[-2:]
        *skips, x = run_stages(x, self.encoder, self.pool)
        maps = [x]
        for stage in self.decoder:
            skip = skips.pop()
            maps.append(stage(torch.cat([_resized(maps[-1], skip.shape[-2:]), skip], dim=1)))
        logits = [
            _resized(side(self.drop(found)), size)
            for side, found in zip(self.sides, reversed(maps), strict=True)
        ]
        fused: Tensor = self.head(torch.cat(logits, dim=1))
        return (fused, *logits) if self.training else fused


def _resized(x: Tensor, size: torch.Size) -> Tensor:
    return x if x.shape[-2:] == size else F.interpolate(x, size=size, mode="bilinear")


register_sizes(
    __name__,
    "u2_kan_{size}",
    {size: {"size": size} for size in SIZES},
    partial(build_segmenter, U2KAN),
    {**segmenter_cfg("2407.01092"), "classifier": "network.head"},
    segmenter=True,
)
