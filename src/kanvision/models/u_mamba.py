"""U-Mamba: a residual U-Net with selective state spaces on its feature maps.

Ma, Li and Wang 2024, "U-Mamba: Enhancing Long-range Dependency for Biomedical Image Segmentation" (arXiv
2401.04722), in the 2-d form of the authors' first release: the residual network of nnU-Net with strided
convolutions, instance norm and leaky ReLU. Stages and widths are those of nnU-Net's plans.

Shapes: B batch, C channels, H W space, N tokens.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from kanvision.layers import create_norm
from kanvision.layers.mamba import Mamba
from kanvision.layers.recompute import recompute
from kanvision.spec.models import UMAMBA_VARIANTS, UMambaSize

from .backbone import drop_path_rates
from .feature_locations import FeatureLocation, unet_feature_locations
from .heads import PixelHead
from .register_sizes import register_sizes
from .segmenter import build_segmenter, segmenter_cfg
from .unet import scaled_widths
from .unet_blocks import run_stages

__all__ = ["SIZES", "MapMamba", "UMamba"]

SIZES: dict[UMambaSize, dict[str, Any]] = {
    "tiny": {"widths": (16, 32, 64, 128, 128)},  # not published, for CPUs
    "small": {"widths": (32, 64, 128, 256, 512, 512, 512)},  # nnU-Net's plan for 256 pixels
    # nnU-Net's plan for 512 pixels, the closest in size to the network of the U-KAN paper's table
    "base": {"widths": (32, 64, 128, 256, 512, 512, 512, 512)},
}
_SLOPE = 0.01


class ConvNorm(nn.Sequential):
    """Convolution, instance norm and optional leaky ReLU, (B, C, H, W) -> (B, O, H / stride, W / stride)."""

    def __init__(
        self,
        fan_in: int,
        width: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        bias: bool = True,
        act: bool = True,
    ) -> None:
        parts: dict[str, nn.Module] = {
            "conv": nn.Conv2d(fan_in, width, kernel_size, stride=stride, padding=kernel_size // 2, bias=bias),
            "norm": create_norm("instance", width, 2),
        }
        if act:
            parts["act"] = nn.LeakyReLU(_SLOPE)
        super().__init__(OrderedDict(parts))


class ResidualBlock(nn.Module):
    """Residual block leaky_relu(skip(x) + convs(x)) of two convolutions.

    With `checkpoint`, all of it is computed again in the backward pass.

    Args:
        fan_in: Number of input channels, C.
        width: Number of output features, O.
        stride: Stride of the first convolution.
        drop_path: Rate of stochastic depth, which omits the branch for a sample.
    """

    checkpoint = False

    def __init__(self, fan_in: int, width: int, stride: int = 1, drop_path: float = 0.0) -> None:
        super().__init__()
        self.conv1 = ConvNorm(fan_in, width, stride=stride)
        self.conv2 = ConvNorm(width, width, act=False)
        self.drop_path = DropPath(drop_path)
        skip: list[nn.Module] = [nn.AvgPool2d(stride)] if stride > 1 else []
        if fan_in != width:
            skip.append(ConvNorm(fan_in, width, 1, bias=False, act=False))
        self.skip = nn.Sequential(*skip)
        self.act = nn.LeakyReLU(_SLOPE)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, O, H / stride, W / stride)."""
        if self.checkpoint and self.training:
            return recompute(self._convolve, x, part=self, is_random=True)
        return self._convolve(x)

    def _convolve(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.skip(x) + self.drop_path(self.conv2(self.conv1(x))))
        return y


class MapMamba(nn.Module):
    """Layer norm and Mamba over all pixels of a map, row by row, without a shortcut.

    Args:
        width: Number of features, C.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mamba = Mamba(width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        tokens = self.mamba(self.norm(x.flatten(2).mT))  # (B, N, C)
        y: Tensor = tokens.mT.unflatten(-1, x.shape[-2:])
        return y


class UpStage(nn.Module):
    """Transposed convolution to the width of the skip, concatenation with it, and residual blocks."""

    def __init__(self, fan_in: int, width: int, drop_paths: Sequence[float]) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(fan_in, width, 2, stride=2)
        self.blocks = _blocks(2 * width, width, 1, drop_paths)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map (B, C, H, W) and a skip (B, O, 2H, 2W) to (B, O, 2H, 2W)."""
        y: Tensor = self.blocks(torch.cat([self.up(x), skip], dim=1))
        return y


def _blocks(fan_in: int, width: int, stride: int, drop_paths: Sequence[float]) -> nn.Sequential:
    """Build residual blocks, the first of which changes the shape."""
    first, *others = drop_paths
    return nn.Sequential(
        ResidualBlock(fan_in, width, stride, first), *(ResidualBlock(width, width, 1, p) for p in others)
    )


class UMamba(nn.Module):
    """Stem, residual encoder stages, and a decoder with concatenated skip connections.

    Convolutions are initialized as in nnU-Net (He et al. for leaky ReLU, no bias).

    Args:
        widths: Channels of each stage, from the full resolution down.
        mamba: Position of the state spaces, one of `UMAMBA_VARIANTS`: after the deepest stage, or after every
            stage of the encoder, in which case the last norm of each residual block starts at 0.
        depth: Number of residual blocks of each stage.
        width_scale: Multiplies all widths.
        in_chans: Number of input channels.
        num_classes: Number of classes, the output channels.
        drop_rate: Dropout of maps before the last convolution.
        drop_path_rate: Stochastic depth, rising linearly to this rate at the last of all blocks.

    Raises:
        ValueError: A value is not legal; the message names it.
    """

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 128, 256, 512, 512, 512, 512),
        mamba: str = "bottleneck",
        depth: int = 2,
        width_scale: float = 1.0,
        in_chans: int = 3,
        num_classes: int = 1,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if mamba not in UMAMBA_VARIANTS:
            raise ValueError(f"mamba={mamba!r} is not known; legal values: {', '.join(UMAMBA_VARIANTS)}")
        if len(widths) < 2:
            raise ValueError(f"widths={tuple(widths)} must have at least two stages")
        if depth < 1:
            raise ValueError(f"depth={depth} must be at least 1")
        sizes = scaled_widths(widths, width_scale)
        self.in_chans = in_chans
        self.num_classes = num_classes
        self.stride = 2 ** (len(sizes) - 1)
        """Sides of images are multiples of this."""
        rates = iter(drop_path_rates(drop_path_rate, depth * (2 * len(sizes) - 1)))

        def drop_paths() -> list[float]:
            return [rate for _, rate in zip(range(depth), rates, strict=False)]

        self.stem = ConvNorm(in_chans, sizes[0])
        self.encoder = nn.ModuleList()
        for level, (fan_in, width) in enumerate(pairwise([sizes[0], *sizes])):
            stage = _blocks(fan_in, width, 2 if level else 1, drop_paths())
            if mamba == "encoder" or level == len(sizes) - 1:
                stage.append(MapMamba(width))
            self.encoder.append(stage)
        self.decoder = nn.ModuleList(
            UpStage(fan_in, width, drop_paths()) for fan_in, width in pairwise(reversed(sizes))
        )
        self.head = PixelHead(sizes[0], num_classes, drop_rate)
        self.reset_parameters(zero_branches=mamba == "encoder")

    @torch.no_grad()
    def reset_parameters(self, zero_branches: bool) -> None:
        """Initialize the convolutions; `zero_branches` makes each residual block its skip at the start."""
        for conv in self._convolutions():
            nn.init.kaiming_normal_(conv.weight, a=_SLOPE)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
        for block in self.modules():
            if zero_branches and isinstance(block, ResidualBlock):
                norm: Any = block.conv2.norm
                nn.init.zeros_(norm.weight)

    def _convolutions(self) -> Iterator[nn.Conv2d | nn.ConvTranspose2d]:
        return (m for m in self.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d))

    def feature_locations(self) -> dict[str, FeatureLocation]:
        """Return the feature maps by position."""
        return unet_feature_locations(self.encoder, self.decoder)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, num_classes, H, W)."""
        *skips, x = run_stages(self.stem(x), self.encoder)
        for stage in self.decoder:
            x = stage(x, skips.pop())
        y: Tensor = self.head(x)
        return y


register_sizes(
    __name__,
    "u_mamba_{size}",
    SIZES,
    partial(build_segmenter, UMamba),
    segmenter_cfg("2401.04722"),
    segmenter=True,
)
