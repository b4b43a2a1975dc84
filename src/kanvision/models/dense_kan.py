"""DenseKANet: dense blocks of KAN convolutions.

Drokin 2024, "Kolmogorov-Arnold Convolutions" (arXiv 2407.01092), after Huang et al. 2017, "Densely Connected
Convolutional Networks" (arXiv 1608.06993), over any basis. The transitions between the blocks are plain, and
the pooling follows the last block directly. The tiny network, after arXiv 1904.10429, has a 5x5 stem, three
blocks of five layers with a transition after each, and a KAN classifier.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kanvision.layers.recompute import recompute
from kanvision.spec.models import DenseKANSize

from .backbone import KANBackbone, Stage, build_backbone, conv_cfg
from .conv_factory import ConvFactory
from .register_sizes import register_sizes

__all__ = ["SIZES", "DenseBlock", "DenseKAN", "DenseLayer"]

_STEM_REDUCTION = 4  # of the bottleneck form of the stem


class DenseLayer(nn.Module):
    """1x1 convolution over all channels so far, then a 3x3 convolution to `growth` new channels.

    Args:
        factory: Factory of the convolutions.
        in_channels: Channels so far.
        growth: Channels of the output.
        inner: Channels between the two convolutions.
        checkpoint: Recompute the concatenated input and the 1x1 convolution in the backward pass. All inputs
            of a block then need as much memory as its output; otherwise each layer keeps a copy.
    """

    def __init__(
        self, factory: ConvFactory, in_channels: int, growth: int, inner: int, checkpoint: bool = False
    ) -> None:
        super().__init__()
        self.conv1 = factory.conv(in_channels, inner, 1, drop_rate=0.0)
        self.conv2 = factory.conv(inner, growth, 3)
        self.checkpoint = checkpoint

    def _narrow(self, *features: Tensor) -> Tensor:
        y: Tensor = self.conv1(torch.cat(features, dim=1))
        return y

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map feature maps (B, C_i, H, W) with `in_channels` channels in total to (B, growth, H, W)."""
        is_kept = not (self.checkpoint and self.training)
        inner = self._narrow(*features) if is_kept else recompute(self._narrow, *features, part=self.conv1)
        y: Tensor = self.conv2(inner)
        return y


class DenseBlock(nn.ModuleList):
    """Sequence of dense layers, (B, C, H, W) -> (B, C + depth * growth, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Append the outputs of the layers to the channels of the input."""
        features = [x]
        for layer in self:
            features.append(layer(features))
        return torch.cat(features, dim=1)


def _transition(in_channels: int, out_channels: int, device: Any, dtype: Any) -> nn.Sequential:
    where = {"device": device, "dtype": dtype}
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["norm"] = nn.BatchNorm2d(in_channels, **where)
    layers["act"] = nn.SELU()
    layers["conv"] = nn.Conv2d(in_channels, out_channels, 1, bias=False, **where)
    # Rounding up keeps a 1x1 map; even sides are not affected.
    layers["pool"] = nn.AvgPool2d(2, ceil_mode=True)
    return nn.Sequential(layers)


SIZES: dict[DenseKANSize, dict[str, Any]] = {
    "tiny": {
        "depths": (5, 5, 5),
        "stem_size": 5,
        "stem_pool": False,
        "last_transition": True,
        "head": "kan",
        "grad_checkpointing": True,
    },
    121: {"depths": (6, 12, 24, 16)},
    161: {"depths": (6, 12, 36, 24), "growth": 48},
    169: {"depths": (6, 12, 32, 32)},
    201: {"depths": (6, 12, 48, 32)},
}


class DenseKAN(KANBackbone):
    """DenseNet of KAN convolutions.

    Args:
        depths: Number of layers of each block.
        growth: Channels that each layer adds.
        stem_width: Output channels of the stem.
        stem_size: Side of the kernel of the stem, which halves the resolution.
        stem_pool: Add max pooling after the stem.
        expansion: Channels between the two convolutions of a layer over its `growth`.
        last_transition: Add a transition after the last block too.
        grad_checkpointing: Recompute the concatenated inputs of all layers in the backward pass.
        width_scale: Multiplies `growth` and `stem_width`; each is rounded to a multiple of `groups`, at least
            one per group.
        in_chans: Number of input channels.
        **options: Arguments of `ConvFactory` (basis, layer, form, norm, groups, ...) and of `KANBackbone`
            (num_classes, head, drop_rate, ...). Dropout inside layers is that of the 3x3 convolutions.

    Raises:
        ValueError: A value is not legal; the message names it.
    """

    def __init__(
        self,
        depths: Sequence[int] = (6, 12, 24, 16),
        growth: int = 32,
        stem_width: int = 64,
        stem_size: int = 7,
        stem_pool: bool = True,
        expansion: int = 4,
        last_transition: bool = False,
        grad_checkpointing: bool = False,
        width_scale: float = 1.0,
        in_chans: int = 3,
        **options: Any,
    ) -> None:
        factory, options = ConvFactory.split(options)
        growth = factory.width(growth, width_scale)
        channels = factory.width(stem_width, width_scale)
        layers: list[nn.Module] = [
            factory.first(in_chans, channels, stem_size, stride=2, dim_reduction=_STEM_REDUCTION)
        ]
        parts: list[Stage] = []
        reduction = 2
        if stem_pool:
            parts.append(Stage(layers, channels, reduction))
            layers, reduction = [nn.MaxPool2d(3, stride=2, padding=1)], 2 * reduction
        for index, depth in enumerate(depths):
            block = DenseBlock()
            for _ in range(depth):
                block.append(DenseLayer(factory, channels, growth, expansion * growth, grad_checkpointing))
                channels += growth
            parts.append(Stage([*layers, block], channels, reduction))
            if index + 1 < len(depths) or last_transition:
                narrow = channels // 2
                # A nested Sequential gives layers of all kinds three numbers in their names.
                layers = [nn.Sequential(_transition(channels, narrow, factory.device, factory.dtype))]
                channels, reduction = narrow, 2 * reduction
        if last_transition:
            parts.append(Stage(layers, channels, reduction))
        super().__init__(parts, factory=factory, in_chans=in_chans, **options)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return the order of the layers for layer-wise learning rates (timm's protocol)."""
        fine = r"^stages\.(\d+)\.(\d+)\.(\d+)"
        return {"stem": r"^stages\.0\.0\.", "blocks": r"^stages\.(\d+)" if coarse else fine}


register_sizes(__name__, "dense_kan_{size}", SIZES, partial(build_backbone, DenseKAN), conv_cfg())
