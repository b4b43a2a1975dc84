"""U-KAN: a U-shaped network of convolutions with KAN layers in its deepest stages.

Li et al. 2024, "U-KAN Makes Strong Backbone for Medical Image Segmentation and Generation" (arXiv
2406.02918); the size "crop" is that of Rege Cambrin et al. 2024, "KAN You See It? KANs and Sentinel for
Effective and Explainable Crop Field Segmentation" (arXiv 2408.07040). As in the published code, and
unlike the text of the paper, skips are added, and a KAN layer precedes its depthwise convolution.

Shapes: B batch, C channels, H W space.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from timm.layers.weight_init import trunc_normal_
from torch import Tensor, nn

from kanvision.layers import PRESETS, GroupRational, KANLinear, get_preset
from kanvision.spec.models import UKANSize

from .register_sizes import register_sizes
from .segmenter import build_segmenter, segmenter_cfg
from .token_unet import TokenBlock, TokenLinear, TokenUNet, init_conv_weights
from .unet import ConvPair

__all__ = ["GROUP_RATIONAL", "SIZES", "UKAN", "PlainLinear", "TokenMixer"]

SIZES: dict[UKANSize, dict[str, Any]] = {
    "tiny": {"embed_dims": (32, 48, 64)},  # not published, for CPUs
    "small": {"embed_dims": (64, 96, 128)},  # published U-KAN S
    "medium": {"embed_dims": (128, 160, 256)},  # published U-KAN M, the network of the paper's tables
    "large": {"embed_dims": (256, 320, 512)},  # published U-KAN L
    "crop": {"embed_dims": (256, 512, 1024), "stem_dims": (64, 128)},  # published for crop fields
}
GROUP_RATIONAL = "group_rational"
"""Layer of KAT: one learned rational for each group of channels, then a linear map."""
_RATIONAL_GROUPS = 8


class PlainLinear(TokenLinear):
    """Linear map of the MLP twin, trained at the rate of the KAN layers, as published."""

    kan_parameters: ClassVar[tuple[str, ...]] = ("weight", "bias")


class RationalLinear(nn.Sequential):
    """Learned rational function of every channel and a linear map (Yang and Wang 2024, arXiv 2409.10594).

    Args:
        width: Number of input and output features, C.
    """

    def __init__(self, width: int) -> None:
        num_groups = next(g for g in range(min(_RATIONAL_GROUPS, width), 0, -1) if width % g == 0)
        parts = {
            "act": GroupRational(width, num_groups=num_groups, init="swish"),
            "linear": PlainLinear(width, width),
        }
        super().__init__(OrderedDict(parts))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialize the rational as Swish, and the map so that it keeps the variance of normal inputs."""
        act, linear = self[0], self[1]
        assert isinstance(act, GroupRational)
        assert isinstance(linear, PlainLinear)
        act.reset_parameters()
        linear.reset_parameters()
        if not linear.weight.is_meta:
            std = (linear.in_features * act.second_moment().mean()).rsqrt()
            trunc_normal_(linear.weight, std=float(std))


def _kan_layer(
    width: int,
    preset: str | None,
    basis: str,
    basis_kwargs: Mapping[str, Any] | None,
    layer_kwargs: Mapping[str, Any] | None,
) -> nn.Module:
    """Build a KAN layer of `width` features, all of whose weights learn at the rate of KAN parameters."""
    if preset == GROUP_RATIONAL:
        return RationalLinear(width)
    if preset is None and basis == "bspline":
        preset = "efficient_kan"
    options: dict[str, Any] = {"basis": basis, "base_act": "silu"}
    if preset is not None:
        if preset not in PRESETS:
            legal = ", ".join((GROUP_RATIONAL, *PRESETS))
            raise ValueError(f"preset={preset!r} is not known; legal names: {legal}")
        options = get_preset(preset, linear=True)
        if options["basis"] != basis:
            raise ValueError(f"preset={preset!r} has basis={options['basis']!r}, not {basis!r}")
    options["basis_kwargs"] = {**options.get("basis_kwargs", {}), **(basis_kwargs or {})}
    built = KANLinear(width, width, **{**options, **(layer_kwargs or {})})
    if built.base_weight is not None:
        built.kan_parameters = (*built.kan_parameters, "base_weight")
    return built


class TokenMixer(nn.Module):
    """Layer on every token, then depthwise 3x3 convolution, batch norm and ReLU on the map of tokens.

    Args:
        layer: Layer from C features to C features.
        width: Number of features, C.
    """

    is_norm_after_conv = True
    """For `kanvision.layers.fuse_norms`."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.layer = layer
        self.conv = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm = nn.BatchNorm2d(width)
        self.act = nn.ReLU()
        init_conv_weights(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to (B, H, W, C)."""
        maps = self.layer(x).movedim(-1, 1)  # (B, C, H, W), channels innermost in memory
        y: Tensor = self.act(self.norm(self.conv(maps)))
        return y.movedim(1, -1)


class UKAN(TokenUNet):
    """`TokenUNet` of pairs of convolutions, whose blocks are several KAN layers, each before a convolution.

    Args:
        embed_dims: Channels of the last convolutional stage and of the two token stages.
        stem_dims: Channels of the first two stages; None is an eighth and a quarter of the third.
        num_layers: Number of KAN layers of each block.
        plain: True builds the MLP twin, in which linear maps with bias replace all KAN layers. A sequence has
            one value for each layer of a block.
        basis: Short name of the basis.
        basis_kwargs: Arguments of the basis.
        preset: Published layer, a key of `kanvision.layers.PRESETS`, or `GROUP_RATIONAL`, which has no basis.
            None is "efficient_kan" for B-splines, as published, and W_b SiLU(x) + W_s phi(x) for other
            bases: norm and activation follow the depthwise convolution.
        layer_kwargs: Further arguments of `KANLinear`; they override those of the preset.
        **others: `in_chans`, `num_classes`, `drop_rate` and `drop_path_rate`, see `TokenUNet`.

    Raises:
        ValueError: A value is not legal; the message names it.
    """

    def __init__(
        self,
        embed_dims: Sequence[int] = (128, 160, 256),
        stem_dims: Sequence[int] | None = None,
        num_layers: int = 3,
        plain: bool | Sequence[bool] = False,
        basis: str = "bspline",
        basis_kwargs: Mapping[str, Any] | None = None,
        preset: str | None = None,
        layer_kwargs: Mapping[str, Any] | None = None,
        **others: Any,
    ) -> None:
        if num_layers < 1:
            raise ValueError(f"num_layers={num_layers} must be at least 1")
        is_plain = (plain,) * num_layers if isinstance(plain, bool) else tuple(plain)
        if len(is_plain) != num_layers:
            raise ValueError(f"plain={is_plain} must have one value for each of num_layers={num_layers}")

        def block(width: int, drop_path: float) -> TokenBlock:
            layers = [
                PlainLinear(width, width)
                if without_kan
                else _kan_layer(width, preset, basis, basis_kwargs, layer_kwargs)
                for without_kan in is_plain
            ]
            return TokenBlock([TokenMixer(layer, width) for layer in layers], width, drop_path)

        super().__init__(
            embed_dims,
            stem_dims,
            down=lambda fan_in, width: ConvPair(fan_in, width, width, bias=True),
            block=block,
            up=lambda fan_in, width: ConvPair(fan_in, fan_in, width, bias=True),
            resize=nn.Upsample(scale_factor=2, mode="bilinear"),
            **others,
        )


for _size, _arguments in SIZES.items():
    register_sizes(
        __name__,
        "ukan_{size}",
        {_size: _arguments},
        partial(build_segmenter, UKAN),
        segmenter_cfg("2408.07040" if _size == "crop" else "2406.02918"),
        segmenter=True,
    )
