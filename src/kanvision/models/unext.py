"""UNeXt: a U-shaped network of convolutions with shifted MLPs in its deepest stages.

Valanarasu and Patel 2022, "UNeXt: MLP-based Rapid Medical Image Segmentation Network" (arXiv 2203.04967), as
in the published code.

Shapes: B batch, C channels, H W space.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kanvision.spec.models import UNeXtSize

from .register_sizes import register_sizes
from .segmenter import build_segmenter, segmenter_cfg
from .token_unet import TokenBlock, TokenLinear, TokenUNet, init_conv_weights

__all__ = ["SIZES", "ShiftedMlp", "UNeXt", "shift"]

SIZES: dict[UNeXtSize, dict[str, Any]] = {
    "small": {"embed_dims": (32, 64, 128), "stem_dims": (8, 16)},  # published UNeXt-S
    "base": {"embed_dims": (128, 160, 256)},  # published UNeXt, the network of the tables
}
_REACH = 2


def shift(x: Tensor, dim: int, reach: int = _REACH) -> Tensor:
    """Shift five groups of channels by -2, -1, 0, 1 and 2 tokens, with zeros at the border.

    Args:
        x: Tokens (B, H, W, C).
        dim: Axis of the shift, 1 for H and 2 for W.
        reach: Largest shift; there are 2 reach + 1 groups.
    """
    size = x.shape[dim]
    padded = F.pad(x, (0, 0, *(0, 0) * (2 - dim), reach, reach))
    groups = padded.chunk(2 * reach + 1, dim=-1)
    return torch.cat([part.narrow(dim, 2 * reach - index, size) for index, part in enumerate(groups)], dim=-1)


class ShiftedMlp(nn.Module):
    """Two linear maps, the first after a shift along H and the second after a shift along W.

    A depthwise 3x3 convolution and GELU are between them.

    Args:
        width: Number of features, C.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear1 = TokenLinear(width, width)
        self.conv = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.act = nn.GELU()
        self.linear2 = TokenLinear(width, width)
        init_conv_weights(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to (B, H, W, C)."""
        maps = self.linear1(shift(x, 1)).movedim(-1, 1)  # (B, C, H, W)
        x = self.act(self.conv(maps)).movedim(1, -1)
        y: Tensor = self.linear2(shift(x, 2))
        return y


def _conv(fan_in: int, width: int) -> nn.Module:
    """Build a 3x3 convolution and batch norm; the ReLU follows the pooling or the upsampling."""
    parts = {"conv": nn.Conv2d(fan_in, width, 3, padding=1), "norm": nn.BatchNorm2d(width)}
    return nn.Sequential(OrderedDict(parts))


class UNeXt(TokenUNet):
    """`TokenUNet` of single convolutions, whose blocks are shifted MLPs.

    The last convolution of the decoder has no norm.

    Args:
        embed_dims: Channels of the last convolutional stage and of the two token stages.
        stem_dims: Channels of the first two stages; None is an eighth and a quarter of the third.
        **others: `in_chans`, `num_classes`, `drop_rate` and `drop_path_rate`, see `TokenUNet`.

    Raises:
        ValueError: A width is not legal; the message names it.
    """

    def __init__(
        self,
        embed_dims: Sequence[int] = (128, 160, 256),
        stem_dims: Sequence[int] | None = None,
        **others: Any,
    ) -> None:
        super().__init__(
            embed_dims,
            stem_dims,
            down=lambda fan_in, width: nn.Sequential(_conv(fan_in, width), nn.ReLU()),
            block=lambda width, drop_path: TokenBlock([ShiftedMlp(width)], width, drop_path),
            up=_conv,
            resize=nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.ReLU()),
            **others,
        )
        last: Any = self.decoder[-1]
        last.norm = nn.Identity()


register_sizes(
    __name__,
    "unext_{size}",
    SIZES,
    partial(build_segmenter, UNeXt),
    segmenter_cfg("2203.04967"),
    segmenter=True,
)
