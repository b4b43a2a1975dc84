"""Base of UNeXt and U-KAN: a U-shaped network of convolutional stages and token stages.

Valanarasu and Patel 2022, "UNeXt: MLP-based Rapid Medical Image Segmentation Network" (arXiv 2203.04967). As
in the published code, and unlike the figures of the paper, skips are added.

Shapes: B batch, C channels, H W space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import ClassVar

from timm.layers import DropPath
from timm.layers.weight_init import trunc_normal_
from torch import Tensor, nn

from kanvision.layers.recompute import recompute

from .backbone import drop_path_rates
from .feature_locations import FeatureLocation
from .heads import PixelHead

__all__ = ["TokenBlock", "TokenEmbed", "TokenLinear", "TokenUNet", "init_conv_weights"]

_LINEAR_STD = 0.02


class TokenLinear(nn.Linear):
    """Linear map of tokens, initialized with small weights and no bias."""

    def reset_parameters(self) -> None:
        """Initialize the weights from a truncated normal distribution and the bias with zeros."""
        trunc_normal_(self.weight, std=_LINEAR_STD)
        nn.init.zeros_(self.bias)


def init_conv_weights(conv: nn.Conv2d) -> None:
    """Initialize a convolution with normal weights of variance 2 / fan_out and no bias."""
    fan_out = conv.weight[0, 0].numel() * conv.out_channels // conv.groups
    nn.init.normal_(conv.weight, std=(2 / fan_out) ** 0.5)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


class TokenEmbed(nn.Module):
    """3x3 convolution and layer norm over the channels, (B, C, H, W) -> (B, H / stride, W / stride, O).

    Args:
        in_channels: Number of input channels, C.
        out_channels: Number of output channels, O.
        stride: Pixels between tokens.
        act: Activation between the two; None for none.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 2, act: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1)
        self.act = nn.Identity() if act is None else act
        self.norm = nn.LayerNorm(out_channels)
        init_conv_weights(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to tokens, channels last."""
        tokens: Tensor = self.norm(self.act(self.conv(x).movedim(1, -1)))
        return tokens


class TokenBlock(nn.Module):
    """Residual block x + mixers(norm(x)) on tokens, with one norm and one shortcut around all mixers.

    With `checkpoint`, all of it is computed again in the backward pass.

    Args:
        mixers: Modules that map (B, H, W, C) to (B, H, W, C).
        width: Number of features, C.
        drop_path: Rate of stochastic depth, which omits the branch for a sample.
    """

    checkpoint = False

    def __init__(self, mixers: Iterable[nn.Module], width: int, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mixers = nn.Sequential(*mixers)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to (B, H, W, C)."""
        if self.checkpoint and self.training:
            return recompute(self._mix, x, part=self, is_random=True)
        return self._mix(x)

    def _mix(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.drop_path(self.mixers(self.norm(x)))
        return y


class TokenUNet(nn.Module):
    """Encoder of three convolutional and two token stages, and a decoder with added skip connections.

    The encoder is three times {convolutions, max pooling} and twice {embedding, block, layer norm}. The
    decoder is five times {convolutions, upsampling}; the skip of that size is added after the first four, and
    a block and layer norm follow the first two. No skip has the full resolution. Sides of images must be
    multiples of 32; registered models, which are `kanvision.models.Segmenter`s, accept any size.

    Args:
        embed_dims: Channels of the last convolutional stage and of the two token stages.
        stem_dims: Channels of the first two stages; None is an eighth and a quarter of the third.
        down: Function of (C, O) that builds the convolutions of an encoder stage.
        block: Function of (C, rate of stochastic depth) that builds a block, (B, H, W, C) to (B, H, W, C).
        up: Function of (C, O) that builds the convolutions of a decoder stage.
        resize: Module that upsamples by two.
        in_chans: Number of input channels.
        num_classes: Number of classes, the output channels.
        drop_rate: Dropout of maps before the last convolution.
        drop_path_rate: Stochastic depth, rising linearly to this rate at the last of the four blocks.

    Raises:
        ValueError: A width is not legal; the message names it.
    """

    stride: ClassVar[int] = 32
    """Sides of images are multiples of this."""

    def __init__(
        self,
        embed_dims: Sequence[int],
        stem_dims: Sequence[int] | None,
        *,
        down: Callable[[int, int], nn.Module],
        block: Callable[[int, float], nn.Module],
        up: Callable[[int, int], nn.Module],
        resize: nn.Module,
        in_chans: int = 3,
        num_classes: int = 1,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if len(embed_dims) != 3 or any(width < 1 for width in embed_dims):
            raise ValueError(f"embed_dims={tuple(embed_dims)} must be three positive widths")
        third, fourth, fifth = embed_dims
        widths = (third // 8, third // 4) if stem_dims is None else tuple(stem_dims)
        if len(widths) != 2 or any(width < 1 for width in widths):
            raise ValueError(f"stem_dims={stem_dims} must be two positive widths; embed_dims[0]={third}")
        first, second = widths
        self.in_chans = in_chans
        self.num_classes = num_classes
        rates = drop_path_rates(drop_path_rate, 4)
        self.encoder = nn.ModuleList(
            down(fan_in, width) for fan_in, width in pairwise((in_chans, first, second, third))
        )
        self.pool = nn.MaxPool2d(2)
        self.embeds = nn.ModuleList([TokenEmbed(third, fourth), TokenEmbed(fourth, fifth)])
        self.down_blocks = nn.ModuleList([block(fourth, rates[0]), block(fifth, rates[1])])
        self.down_norms = nn.ModuleList([nn.LayerNorm(fourth), nn.LayerNorm(fifth)])
        path = (fifth, fourth, third, second, first, first)
        self.decoder = nn.ModuleList(up(fan_in, width) for fan_in, width in pairwise(path))
        self.resize = resize
        self.up_blocks = nn.ModuleList([block(fourth, rates[2]), block(third, rates[3])])
        self.up_norms = nn.ModuleList([nn.LayerNorm(fourth), nn.LayerNorm(third)])
        self.head = PixelHead(first, num_classes, drop_rate)

    def feature_locations(self) -> dict[str, FeatureLocation]:
        """Return the feature maps by position: inputs of the next stages, which are maps and not tokens."""
        deepest = FeatureLocation(self.decoder[0], is_input=True)
        return {
            "encoder_last": deepest,
            "bottleneck": deepest,
            "decoder_last": FeatureLocation(self.head, is_input=True),
        }

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, num_classes, H, W)."""
        skips = []
        for convs in self.encoder:
            x = self.pool(convs(x))
            skips.append(x)
        for embed, block, norm in zip(self.embeds, self.down_blocks, self.down_norms, strict=True):
            x = norm(block(embed(x))).movedim(-1, 1)  # (B, C, H, W)
            skips.append(x)
        skips.pop()  # the deepest map is the input of the decoder
        for index, convs in enumerate(self.decoder):
            x = self.resize(convs(x))
            if skips:
                x = x + skips.pop()
            if index < len(self.up_blocks):
                tokens = self.up_blocks[index](x.movedim(1, -1))
                x = self.up_norms[index](tokens).movedim(-1, 1)  # (B, C, H, W)
        y: Tensor = self.head(x)
        return y
