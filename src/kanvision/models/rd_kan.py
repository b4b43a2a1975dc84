"""RDNet of KAN convolutions: a wide DenseNet with alternating depthwise and 1x1 convolutions.

Drokin 2024, "Kolmogorov-Arnold Convolutions" (arXiv 2407.01092), after Kim et al. 2024, "DenseNets Reloaded"
(arXiv 2403.19588), over any basis. The published code splits the expanded channels of its depthwise
convolutions at wrong indices, so that some of them get no input, and builds stochastic depth without using
it; both are corrected here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from kanvision.spec.models import RDKANSize

from .backbone import KANBackbone, Stage, build_backbone, conv_cfg, drop_path_rates
from .conv_factory import ConvFactory
from .register_sizes import register_sizes

__all__ = ["RDKAN", "SIZES", "GrowingLayer", "GrowingStage", "Patchify"]

_PATCH = 4
_MULTIPLE = 8
_WIDENING = 4
_LAYER_SCALE = 1e-6


def _rounded(channels: float) -> int:
    """Round down to a multiple of eight, but at least to eight."""
    return max(_MULTIPLE, int(channels / _MULTIPLE) * _MULTIPLE)


class Patchify(nn.Module):
    """Convolution whose stride equals its kernel size; images are padded to whole patches.

    Padding repeats the last row and column.

    Args:
        conv: Convolution without padding.
        patch_size: Side of the kernel.
    """

    def __init__(self, conv: nn.Module, patch_size: int) -> None:
        super().__init__()
        self.conv = conv
        self.patch_size = patch_size

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, O, ceil(H / patch_size), ceil(W / patch_size))."""
        below, beside = (-side % self.patch_size for side in x.shape[-2:])
        if below or beside:
            x = F.pad(x, (0, beside, 0, below), mode="replicate")
        y: Tensor = self.conv(x)
        return y


class ChannelGate(nn.Module):
    """Effective squeeze and excitation (arXiv 1911.06667): x * hard_sigmoid(conv1x1(mean of x over space)).

    Args:
        factory: Factory of the convolution.
        channels: Number of channels of the map.
    """

    def __init__(self, factory: ConvFactory, channels: int) -> None:
        super().__init__()
        self.conv = factory.conv(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        # F.hardsigmoid has no second derivative
        gate = F.relu6(self.conv(x.mean((2, 3), keepdim=True)) + 3) / 6
        return x * gate


class GrowingLayer(nn.Module):
    """Depthwise 7x7, 1x1 to four times the width, 1x1 to `growth` new channels, gate and layer scale.

    Args:
        factory: Factory of the convolutions.
        in_channels: Number of input channels.
        growth: Channels of the output.
        gated: Add a channel gate.
        drop_path: Rate of stochastic depth, which sets the output to zero for a sample.
    """

    def __init__(
        self, factory: ConvFactory, in_channels: int, growth: int, gated: bool, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        inner = _rounded(in_channels * _WIDENING)
        self.layers = nn.Sequential(
            factory.depthwise(in_channels, 7),
            factory.conv(in_channels, inner, 1),
            factory.conv(inner, growth, 1),
            ChannelGate(factory, growth) if gated else nn.Identity(),
        )
        scale = torch.full((growth,), _LAYER_SCALE, device=factory.device, dtype=factory.dtype)
        self.gamma = nn.Parameter(scale)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, growth, H, W)."""
        y: Tensor = self.drop_path(self.layers(x) * self.gamma.view(-1, 1, 1))
        return y


class GrowingStage(nn.ModuleList):
    """Sequence of growing layers, (B, C, H, W) -> (B, C + depth * growth, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Append the output of each layer to the channels of its input."""
        for layer in self:
            x = torch.cat([x, layer(x)], dim=1)
        return x


def _plan(growths: Sequence[int], halvings: Sequence[int]) -> dict[str, Any]:
    return {"growths": tuple(growths), "halvings": tuple(halvings)}


SIZES: dict[RDKANSize, dict[str, Any]] = {
    "tiny": {"stem_width": 32, **_plan([32, 52, 64, 64, 64, 64, 112], [1, 2, 6])},
    "small": {"stem_width": 72, **_plan([64, 128, *[128] * 7, 240, 240], [1, 2, 9])},
    "base": {"stem_width": 120, **_plan([96, 128, *[168] * 7, 336, 336], [1, 2, 9])},
    "large": {"stem_width": 144, **_plan([128, 192, *[256] * 8, 360, 360], [1, 2, 10])},
}
"""Channels that a layer adds, by dense stage, and the stages that begin at half the resolution."""
_UNGATED = 2  # number of dense stages without gates, at the beginning


class RDKAN(KANBackbone):
    """RDNet of KAN convolutions.

    The first dense stage follows the stem; every other one begins with a convolution to half the channels
    (2x2 with stride 2, or 1x1). A feature map is the output of all dense stages of one resolution.

    Args:
        growths: Channels that each layer adds, by dense stage.
        halvings: Indices of the dense stages that begin at half the resolution.
        depths: Number of layers of each dense stage, or one number for all.
        stem_width: Output channels of the stem, a 4x4 convolution with stride 4.
        stem_form: Form of the stem; None is that of the network. The published stem is always a bottleneck.
        attention: Add self-attention after each dense stage.
        attention_reduction: Number of channels divided by the width of the attention; None keeps it.
        width_scale: Multiplies `growths` and `stem_width`.
        in_chans: Number of input channels.
        norm: As in `ConvFactory`; "layer" as published.
        drop_path_rate: Stochastic depth, rising linearly to this rate at the last layer.
        **options: Arguments of `ConvFactory` (basis, layer, form, ...; `groups` must be 1) and of
            `KANBackbone` (num_classes, head, drop_rate, ...).

    Raises:
        ValueError: A value is not legal; the message names it.
    """

    has_branches = True

    def __init__(
        self,
        growths: Sequence[int] = SIZES["tiny"]["growths"],
        halvings: Sequence[int] = SIZES["tiny"]["halvings"],
        depths: int | Sequence[int] = 3,
        stem_width: int = 32,
        stem_form: str | None = None,
        attention: bool = False,
        attention_reduction: float | None = None,
        width_scale: float = 1.0,
        in_chans: int = 3,
        norm: str | None = "layer",
        drop_path_rate: float = 0.0,
        **options: Any,
    ) -> None:
        factory, options = ConvFactory.split({"dim_reduction": 4, "norm": norm, **options})
        if factory.groups != 1:
            raise ValueError(
                f"groups={factory.groups}: RDKAN's large kernels are depthwise already; legal: 1"
            )
        depths = (depths,) * len(growths) if isinstance(depths, int) else tuple(depths)
        if len(depths) != len(growths):
            raise ValueError(f"depths={depths} must have one number for each of {len(growths)} dense stages")
        rates = iter(drop_path_rates(drop_path_rate, sum(depths)))
        channels = factory.width(stem_width, width_scale)
        of_stem = factory if stem_form is None else factory.with_form(stem_form)
        stem = of_stem.first(in_chans, channels, _PATCH, stride=_PATCH, padding=0)
        layers: list[nn.Module] = [Patchify(stem, _PATCH)]
        parts: list[Stage] = []
        reduction = _PATCH
        for index, (growth, depth) in enumerate(zip(growths, depths, strict=True)):
            if index in halvings:
                parts.append(Stage(layers, channels, reduction))
                layers, reduction = [], 2 * reduction
            if index:
                narrow = _rounded(channels / 2)
                side = 2 if index in halvings else 1
                conv = factory.conv(channels, narrow, side, stride=side, padding=0)
                layers.append(Patchify(conv, side) if side > 1 else conv)
                channels = narrow
            growth = factory.width(growth, width_scale)
            stage = GrowingStage()
            for _ in range(depth):
                stage.append(GrowingLayer(factory, channels, growth, index >= _UNGATED, next(rates)))
                channels += growth
            layers.append(stage)
            if attention:
                layers.append(factory.attention(channels, attention_reduction))
        parts.append(Stage(layers, channels, reduction))
        options = {"head_norm": True, "drop_path_rate": drop_path_rate, **options}
        super().__init__(parts, factory=factory, in_chans=in_chans, **options)


register_sizes(__name__, "rd_kan_{size}", SIZES, partial(build_backbone, RDKAN), conv_cfg())
