"""Rolling-UNet: a U-shaped network of convolutions with rolled MLPs in its deepest stages.

Liu et al. 2024, "Rolling-Unet: Revitalizing MLP's Ability to Efficiently Extract Long-Distance Dependencies
for Medical Image Segmentation" (AAAI 2024), as in the published code, without an unused norm in each of its
mixers.

Shapes: B batch, C channels, H W space.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kanvision.spec.models import RollingUNetSize

from .feature_locations import FeatureLocation
from .heads import PixelHead
from .register_sizes import register_sizes
from .segmenter import build_segmenter, segmenter_cfg
from .token_unet import TokenEmbed, TokenLinear, init_conv_weights
from .unet import ConvPair, scaled_widths
from .unet_blocks import refuse_drop_path, run_stages

__all__ = ["SIZES", "RolledMlp", "RollingMixer", "RollingUNet", "roll"]

SIZES: dict[RollingUNetSize, dict[str, Any]] = {
    # published S, the network of the U-KAN paper's tables; published M and L
    "small": {"widths": (16, 32, 64, 128, 256), "middle_drop_rate": 0.1},
    "medium": {"widths": (32, 64, 128, 256, 512), "middle_drop_rate": 0.2},
    "large": {"widths": (64, 128, 256, 512, 1024), "middle_drop_rate": 0.3},
}


def roll(x: Tensor, dim: int, sign: int = 1) -> Tensor:
    """Shift channel c by c tokens with wrap-around, so that a token receives features of distant tokens.

    Args:
        x: Tokens (B, H, W, C).
        dim: Axis of the shift, 1 for H and 2 for W.
        sign: Direction of the shift, 1 or -1.
    """
    size, channels = x.shape[dim], x.shape[-1]
    positions = torch.arange(size, device=x.device).unsqueeze(1)  # (N, 1) along dim
    channel = torch.arange(channels, device=x.device)
    source = (positions - sign * channel) % size * channels + channel  # (N, C), in the axis made of both
    lines = x.movedim(dim, 2)  # (B, other axis, N, C)
    return lines.flatten(2).index_select(-1, source.flatten()).view(lines.shape).movedim(2, dim)


class RolledMlp(nn.Module):
    """Residual MLP x + linear(roll(gelu(linear(roll(x))))), rolled along one axis and then the other.

    Args:
        width: Number of features, C.
        rolls: Axis and direction of the two rolls.
        drop_rate: Dropout after each linear map.
    """

    def __init__(self, width: int, rolls: Sequence[tuple[int, int]], drop_rate: float = 0.0) -> None:
        super().__init__()
        self.rolls = tuple(rolls)
        self.linear1 = TokenLinear(width, width)
        self.linear2 = TokenLinear(width, width)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to (B, H, W, C)."""
        first, second = self.rolls
        y: Tensor = self.drop(F.gelu(self.linear1(roll(x, *first))))
        y = x + self.drop(self.linear2(roll(y, *second)))
        return y


class RollingMixer(nn.Module):
    """Two rolled MLPs and a depthwise separable convolution in parallel, joined by linear maps.

    u = x + linear(norm(mlp_1(x), mlp_2(x))), v = norm(relu(pointwise(depthwise(x)))), and y = linear(u, v).

    Args:
        width: Number of features, C.
        drop_rate: Dropout after each linear map.
    """

    def __init__(self, width: int, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.mlps = nn.ModuleList(
            RolledMlp(width, rolls, drop_rate) for rolls in (((1, 1), (2, 1)), ((2, -1), (1, 1)))
        )
        self.norm = nn.LayerNorm(2 * width)
        self.join = TokenLinear(2 * width, width)
        self.convs = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, groups=width), nn.Conv2d(width, width, 1)
        )
        self.conv_norm = nn.BatchNorm2d(width)
        self.out = TokenLinear(2 * width, width)
        self.drop = nn.Dropout(drop_rate)
        for conv in self.convs:
            assert isinstance(conv, nn.Conv2d)
            init_conv_weights(conv)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to (B, H, W, C)."""
        far = torch.cat([mlp(x) for mlp in self.mlps], dim=-1)  # (B, H, W, 2C)
        far = x + self.drop(self.join(self.norm(far)))
        near = self.conv_norm(self.convs(x.movedim(-1, 1)).relu()).movedim(1, -1)
        y: Tensor = self.drop(self.out(torch.cat([far, near], dim=-1)))
        return y


class RollingUNet(nn.Module):
    """Encoder of three convolutional and two token stages, and a decoder with added skip connections.

    Args:
        widths: Channels of the three convolutional stages and of the two token stages.
        middle_drop_rate: Dropout rate in the mixer of the deepest stage.
        width_scale: Multiplies all widths.
        in_chans: Number of input channels.
        num_classes: Number of classes, the output channels.
        drop_rate: Dropout of maps before the last convolution.
        drop_path_rate: Must be 0: there are no residual branches.

    Raises:
        ValueError: A value is not legal; the message names it.
    """

    stride: ClassVar[int] = 16
    """Sides of images are multiples of this."""

    def __init__(
        self,
        widths: Sequence[int] = (16, 32, 64, 128, 256),
        middle_drop_rate: float = 0.1,
        width_scale: float = 1.0,
        in_chans: int = 3,
        num_classes: int = 1,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if len(widths) != 5:
            raise ValueError(f"widths={tuple(widths)} must have five stages")
        refuse_drop_path(self, drop_path_rate)
        first, second, third, fourth, fifth = scaled_widths(widths, width_scale)
        last = max(1, first // 2)
        self.in_chans = in_chans
        self.num_classes = num_classes
        self.encoder = nn.ModuleList(
            ConvPair(fan_in, width, width, bias=True)
            for fan_in, width in pairwise((in_chans, first, second, third))
        )
        self.pool = nn.MaxPool2d(2)
        self.embeds = nn.ModuleList(
            TokenEmbed(fan_in, width, stride=1, act=nn.GELU())
            for fan_in, width in pairwise((third, fourth, fifth, fourth))
        )
        self.mixers = nn.ModuleList(
            RollingMixer(width, rate)
            for width, rate in ((fourth, 0.0), (fifth, middle_drop_rate), (fourth, 0.0))
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in (fourth, fifth, fourth))
        self.up = nn.Upsample(scale_factor=2, mode="bilinear")
        self.narrow = nn.Sequential(nn.Conv2d(fourth, third, 3, padding=1), nn.BatchNorm2d(third), nn.ReLU())
        self.decoder = nn.ModuleList(
            ConvPair(fan_in, fan_in, width, bias=True)
            for fan_in, width in pairwise((third, second, first, last))
        )
        self.head = PixelHead(last, num_classes, drop_rate)

    def feature_locations(self) -> dict[str, FeatureLocation]:
        """Return the feature maps by position: inputs of the next modules, which are maps and not tokens."""
        deepest = FeatureLocation(self.embeds[2], is_input=True)
        last = FeatureLocation(self.head, is_input=True)
        return {"encoder_last": deepest, "bottleneck": deepest, "decoder_last": last}

    def _mix(self, index: int, tokens: Tensor) -> Tensor:
        """Apply a mixer and its norm to tokens (B, H, W, C) and return a map (B, C, H, W)."""
        maps: Tensor = self.norms[index](self.mixers[index](tokens)).movedim(-1, 1)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, num_classes, H, W)."""
        skips = run_stages(x, self.encoder, self.pool)
        x = self._mix(0, self.embeds[0](self.pool(skips[-1])))
        beside = x
        x = self._mix(1, self.embeds[1](self.pool(x)))
        x = self.up(self.embeds[2](x).movedim(-1, 1)) + beside  # (B, C, H, W)
        x = self.narrow(self._mix(2, x.movedim(1, -1)))
        for pair in self.decoder:
            x = pair(self.up(x) + skips.pop())
        y: Tensor = self.head(x)
        return y


register_sizes(
    __name__,
    "rolling_unet_{size}",
    SIZES,
    partial(build_segmenter, RollingUNet),
    segmenter_cfg(None),
    segmenter=True,
)
