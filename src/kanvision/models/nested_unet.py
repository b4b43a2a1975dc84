"""U-Net++: a U-Net with nodes between encoder and decoder that receive all earlier nodes of their level.

Zhou et al. 2018, "UNet++: A Nested U-Net Architecture for Medical Image Segmentation" (arXiv 1807.10165),
with the upsampling (bilinear, corners aligned) and the batch norms of common code; the base size is twice as
wide as in the paper.

Shapes: B batch, C channels, H W space.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from kanvision.spec.models import NestedUNetSize

from .feature_locations import FeatureLocation
from .heads import PixelHead
from .register_sizes import register_sizes
from .segmenter import build_segmenter, segmenter_cfg
from .unet import ConvPair, scaled_widths
from .unet_blocks import refuse_drop_path, run_stages

__all__ = ["SIZES", "NestedUNet"]

SIZES: dict[NestedUNetSize, dict[str, Any]] = {
    "tiny": {"widths": (8, 16, 32, 64, 128)},  # not published, for CPUs
    "small": {"widths": (32, 64, 128, 256, 512)},  # published
    "base": {"widths": (64, 128, 256, 512, 1024)},  # the network of the U-KAN paper's tables
}


class NestedUNet(nn.Module):
    """Network x_(i,0) = convs(pool(x_(i-1,0))), x_(i,j) = convs(x_(i,0), ..., x_(i,j-1), up(x_(i+1,j-1))).

    Of L + 1 levels, level i has the nodes j = 0 to L - i, each a `ConvPair`; the head follows x_(0,L). The
    published deep supervision, heads on all x_(0,j), is not implemented.

    Args:
        widths: Channels of each level, from the full resolution down.
        width_scale: Multiplies all widths.
        in_chans: Number of input channels.
        num_classes: Number of classes, the output channels.
        drop_rate: Dropout of maps before the last convolution.
        drop_path_rate: Must be 0: there are no residual branches.

    Raises:
        ValueError: A value is not legal; the message names it.
    """

    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 256, 512, 1024),
        width_scale: float = 1.0,
        in_chans: int = 3,
        num_classes: int = 1,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if len(widths) < 2:
            raise ValueError(f"widths={tuple(widths)} must have at least two levels")
        refuse_drop_path(self, drop_path_rate)
        sizes = scaled_widths(widths, width_scale)
        self.in_chans = in_chans
        self.num_classes = num_classes
        self.stride = 2 ** (len(sizes) - 1)
        """Sides of images are multiples of this."""
        self.encoder = nn.ModuleList(
            ConvPair(fan_in, width, width, bias=True) for fan_in, width in pairwise([in_chans, *sizes])
        )
        self.decoder = nn.ModuleList(  # one list of nodes a level, from the full resolution down
            nn.ModuleList(
                ConvPair(before * width + below, width, width, bias=True)
                for before in range(1, len(sizes) - level)
            )
            for level, (width, below) in enumerate(pairwise(sizes))
        )
        self.pool = nn.MaxPool2d(2)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.head = PixelHead(sizes[0], num_classes, drop_rate)

    def feature_locations(self) -> dict[str, FeatureLocation]:
        """Return the feature maps by position."""
        deepest = FeatureLocation(self.encoder[-1])
        last = FeatureLocation(self.head, is_input=True)
        return {"encoder_last": deepest, "bottleneck": deepest, "decoder_last": last}

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, num_classes, H, W)."""
        levels = [[found] for found in run_stages(x, self.encoder, self.pool)]
        for column in range(1, len(levels)):
            for level in range(len(levels) - column):
                node = self.decoder[level][column - 1]  # type: ignore[index]
                below = self.up(levels[level + 1][column - 1])
                levels[level].append(node(torch.cat([*levels[level], below], dim=1)))
        y: Tensor = self.head(levels[0][-1])
        return y


register_sizes(
    __name__,
    "nested_unet_{size}",
    SIZES,
    partial(build_segmenter, NestedUNet),
    segmenter_cfg("1807.10165"),
    segmenter=True,
)
