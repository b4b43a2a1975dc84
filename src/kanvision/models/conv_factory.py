"""One place that knows which convolution a network is made of.

Shapes: B batch, C channels, H W space.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import nn

from kanvision.bases import BASES
from kanvision.layers import (
    PRESETS,
    BottleneckKANConv2d,
    BottleneckKANLinear,
    EdgeWaveletConv2d,
    KANConv2d,
    KANFocalModulation2d,
    KANLinear,
    KANSelfAttention2d,
    MoEBottleneckKANConv2d,
    MoEKANConv2d,
    create_norm,
    default_preset,
    preset,
)
from kanvision.layers.conv import KANConvNd
from kanvision.layers.norm import NORMS

__all__ = ["FORMS", "PLAIN_LAYER", "ConvFactory"]

FORMS = ("plain", "bottleneck", "moe", "moe_bottleneck")
PLAIN_LAYER = "conv"
"""Name of the layer without any basis: convolution with bias, norm, ReLU."""


@dataclass(frozen=True, kw_only=True)
class ConvFactory:
    """Makes the convolutions of a network: `factory.conv(64, 128, stride=2)`.

    The fields are arguments of every ConvKAN network (`kanvision.models.backbone.KANBackbone`).

    Args:
        basis: Short name of the basis.
        basis_kwargs: Arguments of the basis.
        layer: Published layer to imitate (a name in `kanvision.layers.PRESETS`); None takes the one that was
            published with this basis, and for a basis without one SiLU(norm(base + basis)). "wavkan" has a
            wavelet for each edge, which takes O times the work; basis="wavelet" alone ties them to the input
            channel. "conv" has no basis at all: ReLU(norm(convolution + bias)), to compare with.
        pointwise_layer: Another published layer for 1x1 convolutions; None for the same.
        layer_kwargs: Further arguments of the layer (`base_act`, `pad_space`, ...), which win.
        form: What stands for a convolution, one of `FORMS`: itself ("plain"); between two projections one
            over fewer channels ("bottleneck"); a mixture of experts that are convolutions ("moe"), or of the
            inner ones of a bottleneck ("moe_bottleneck"). 1x1 and, but for ConvKAN, first convolutions are
            never mixtures.
        norm: Normalization in the place where the layer has one; None or "none" for none.
        norm_affine: Give norms a learnable scale and shift.
        groups: Groups of every convolution larger than 1x1 but the first.
        layer_drop_rate: Dropout inside every convolution but the first.
        layer_drop_kind: "channel", "element" or "noise"; None is the one that was published with the layer.
        layer_drop_place: Where inside a layer: "input", "branch", "squashed", "basis" or "output"; None is
            where the published layer drops.
        dim_reduction: Factor between the channels and the inner channels of a bottleneck.
        pointwise_reduction: The same for 1x1 convolutions.
        num_experts: Experts of a mixture.
        top_k: Experts that work on one sample.
        moe_kwargs: Further arguments of mixtures (`noisy`, `loss_coef`, `pregate`, `evaluation`).
        attention_kwargs: Arguments of self-attention (`num_heads`, `scale`, `parity`, `post_norm`).
        device: Where the parameters are made.
        dtype: Of the parameters.

    Raises:
        ValueError: A value is not legal; the message names it.
    """

    basis: str = "gram"
    basis_kwargs: Mapping[str, Any] | None = None
    layer: str | None = None
    pointwise_layer: str | None = None
    layer_kwargs: Mapping[str, Any] | None = None
    form: str = "plain"
    norm: str | None = "batch"
    norm_affine: bool = True
    groups: int = 1
    layer_drop_rate: float = 0.0
    layer_drop_kind: str | None = None
    layer_drop_place: str | None = None
    dim_reduction: float = 8
    pointwise_reduction: float = 4
    num_experts: int = 8
    top_k: int = 2
    moe_kwargs: Mapping[str, Any] | None = None
    attention_kwargs: Mapping[str, Any] | None = None
    device: torch.device | str | None = None
    dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ValueError(f"form={self.form!r} is not known; legal values: {', '.join(FORMS)}")
        if self.basis not in BASES:
            raise ValueError(f"basis={self.basis!r} is not known; legal names: {', '.join(sorted(BASES))}")
        if self.norm == "none":
            object.__setattr__(self, "norm", None)
        if self.norm is not None and self.norm not in NORMS:
            raise ValueError(f"norm={self.norm!r} is not known; legal values: None, {', '.join(NORMS)}")
        if self.groups < 1:
            raise ValueError(f"groups={self.groups} must be at least 1")
        if (self.layer == "wavkan" and self._is_bottleneck) or (self.is_plain and self.form != "plain"):
            raise ValueError(f"layer={self.layer!r} has no form={self.form!r}; take form='plain'")
        if self.layer is not None and not self.is_plain and self._preset["basis"] != self.basis:
            raise ValueError(
                f"layer={self.layer!r} is built on basis={self._preset['basis']!r}, not {self.basis!r}"
            )

    @classmethod
    def split(cls, options: Mapping[str, Any]) -> tuple[ConvFactory, dict[str, Any]]:
        """A factory from those options that are its fields, and the other options."""
        names = {field.name for field in fields(cls)}
        own = {key: value for key, value in options.items() if key in names}
        return cls(**own), {key: value for key, value in options.items() if key not in names}

    @property
    def is_plain(self) -> bool:
        """Whether convolutions have no basis."""
        return self.layer == PLAIN_LAYER

    @property
    def _is_bottleneck(self) -> bool:
        return self.form.endswith("bottleneck")

    @property
    def _preset(self) -> dict[str, Any]:
        """Published arguments of the layer; those of the general layer where nothing was published."""
        name = self.layer or default_preset(self.basis)
        if name is None:
            return {
                "basis": self.basis,
                "basis_kwargs": {},
                "base_act": "silu",
                "norm": "batch",
                "act": "silu",
            }
        if name not in PRESETS:
            raise ValueError(
                f"layer={name!r} is not known; legal names: {', '.join((PLAIN_LAYER, *PRESETS))}"
            )
        return preset(name, bottleneck=self._is_bottleneck)

    @property
    def _options(self) -> dict[str, Any]:
        """Arguments of every convolution; `norm` goes where the published layer has its norm."""
        options = self._preset
        options["basis_kwargs"] = {**options["basis_kwargs"], **(self.basis_kwargs or {})}
        for slot in ("norm", "input_norm"):
            if options.get(slot) in NORMS:
                options[slot] = self.norm
        for name in ("kind", "place"):
            value = getattr(self, f"layer_drop_{name}")
            if value is not None:
                options[f"drop_{name}"] = value
        tensors = {"norm_affine": self.norm_affine, "device": self.device, "dtype": self.dtype}
        return {**options, **tensors, **(self.layer_kwargs or {})}

    def width(self, channels: int, scale: float = 1.0) -> int:
        """`channels` times `scale`, rounded to a multiple of the groups, at least one channel for each."""
        return max(1, round(channels * scale / self.groups)) * self.groups

    def conv(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        padding: int | str | None = None,
        dilation: int = 1,
        groups: int | None = None,
        drop_rate: float | None = None,
        dim_reduction: float | None = None,
        mixture: bool = True,
    ) -> nn.Module:
        """Make a convolution (B, in_channels, H, W) -> (B, out_channels, H', W').

        Args:
            in_channels: Channels of the input.
            out_channels: Channels of the output.
            kernel_size: Side of the kernel.
            stride: Step of the kernel.
            padding: Cells around the image, or "same"; None keeps its size at stride 1 and an odd kernel.
            dilation: Distance of the taps.
            groups: None for those of the network, or one for a 1x1 kernel.
            drop_rate: None for that of the network.
            dim_reduction: None for that of the network.
            mixture: Allow a mixture of experts, if the kernel is larger than 1x1.
        """
        if kernel_size == 1 and self.pointwise_layer is not None:
            other = self.with_layer(self.pointwise_layer)
            return other.conv(in_channels, out_channels, 1, stride=stride, drop_rate=drop_rate)
        options: dict[str, Any] = {
            "kernel_size": kernel_size,
            "stride": stride,
            "padding": dilation * (kernel_size // 2) if padding is None else padding,
            "dilation": dilation,
            "groups": (self.groups if kernel_size > 1 else 1) if groups is None else groups,
        }
        drop_rate = self.layer_drop_rate if drop_rate is None else drop_rate
        if self.is_plain:
            return self._plain_conv(in_channels, out_channels, drop_rate, **options)
        options |= {"drop_rate": drop_rate, **self._options}
        mixes = mixture and kernel_size > 1 and self.form.startswith("moe")
        if self._is_bottleneck:
            usual = self.dim_reduction if kernel_size > 1 else self.pointwise_reduction
            options["dim_reduction"] = usual if dim_reduction is None else dim_reduction
        if mixes:
            options |= {"num_experts": self.num_experts, "k": self.top_k, **(self.moe_kwargs or {})}
        cls: type[nn.Module]
        if self._is_bottleneck:
            cls = MoEBottleneckKANConv2d if mixes else BottleneckKANConv2d
        elif mixes:
            cls, options["expert"] = MoEKANConv2d, self._conv_class
        else:
            cls = self._conv_class
        return cls(in_channels, out_channels, **options)

    @property
    def _conv_class(self) -> type[KANConvNd]:
        return EdgeWaveletConv2d if self.layer == "wavkan" else KANConv2d

    def first(self, in_channels: int, out_channels: int, kernel_size: int = 3, **options: Any) -> nn.Module:
        """Make the convolution that sees the image, as `conv` does: one group, no dropout, no mixture."""
        options = {"groups": 1, "drop_rate": 0.0, "mixture": False, **options}
        return self.conv(in_channels, out_channels, kernel_size, **options)

    def depthwise(self, channels: int, kernel_size: int, **options: Any) -> nn.Module:
        """Make a convolution that keeps channels apart, (B, C, H, W) -> (B, C, H, W), as `conv` does."""
        plain = self.with_form("plain")
        return plain.conv(channels, channels, kernel_size, **{"groups": channels, **options})

    def attention(self, channels: int, reduction: float | None = None) -> nn.Module:
        """Make self-attention (B, C, H, W) -> (B, C, H, W), whose projections are 3x3 convolutions.

        Args:
            channels: C.
            reduction: Factor between C and the width of the attention; None keeps C, without projections
                around it.
        """
        width = None if reduction is None else self.width(channels, 1 / reduction)
        own: dict[str, Any] = {"groups": self.groups, **(self.attention_kwargs or {})}
        if self.form in ("plain", "moe") and self._conv_class is KANConv2d and not self.is_plain:
            # so it can make all three in one convolution
            options = {"drop_rate": self.layer_drop_rate, **self._options, **own}
            return KANSelfAttention2d(channels, width, **options)

        def project(in_channels: int, out_channels: int, kernel_size: int, **_: Any) -> nn.Module:
            return self.conv(in_channels, out_channels, kernel_size, mixture=False)

        own |= {"norm_affine": self.norm_affine, "device": self.device, "dtype": self.dtype}
        return KANSelfAttention2d(channels, width, conv=project, **own)

    def focal(self, channels: int, **kwargs: Any) -> nn.Module:
        """Make focal modulation (B, C, H, W) -> (B, C, H, W).

        Args:
            channels: C.
            **kwargs: Arguments of `kanvision.layers.KANFocalModulation2d` (`focal_window`, `focal_level`).
        """

        def project(in_channels: int, out_channels: int, kernel_size: int, **_: Any) -> nn.Module:
            return self.conv(in_channels, out_channels, kernel_size, mixture=False)

        def level(in_channels: int, out_channels: int, kernel_size: int, **_: Any) -> nn.Module:
            return self.depthwise(in_channels, kernel_size, padding="same")

        own = {"norm_affine": self.norm_affine, "device": self.device, "dtype": self.dtype, **kwargs}
        return KANFocalModulation2d(channels, conv=project, level=level, **own)

    def _plain_conv(
        self, in_channels: int, out_channels: int, drop_rate: float, **geometry: Any
    ) -> nn.Sequential:
        where: dict[str, Any] = {"device": self.device, "dtype": self.dtype}
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if drop_rate:
            layers["drop"] = nn.Dropout2d(drop_rate)
        layers["conv"] = nn.Conv2d(in_channels, out_channels, **geometry, **where)
        layers["norm"] = create_norm(self.norm, out_channels, 2, affine=self.norm_affine).to(**where)
        layers["act"] = nn.ReLU()
        return nn.Sequential(layers)

    def linear(
        self, in_features: int, out_features: int, basis_kwargs: Mapping[str, Any] | None = None
    ) -> nn.Module:
        """Make the fully connected layer of the same kind, for the end of a network.

        Args:
            in_features: Size of the input.
            out_features: Size of the output.
            basis_kwargs: Arguments of the basis that differ from those of the convolutions.

        Raises:
            ValueError: The convolutions have no basis.
        """
        if self.is_plain:
            raise ValueError(
                "layer='conv' has no basis, so there is no KAN layer for the head; take head='linear'"
            )
        name = self.layer or default_preset(self.basis)
        options: dict[str, Any] = {"basis": self.basis}
        if name is not None:
            options = preset(name, linear=True, bottleneck=self._is_bottleneck)
        options["basis_kwargs"] = {
            **options.get("basis_kwargs", {}),
            **(self.basis_kwargs or {}),
            **(basis_kwargs or {}),
        }
        cls = BottleneckKANLinear if self._is_bottleneck else KANLinear
        return cls(in_features, out_features, **options, device=self.device, dtype=self.dtype)

    def with_form(self, form: str) -> ConvFactory:
        """The same in another form."""
        return replace(self, form=form)

    def with_layer(self, layer: str) -> ConvFactory:
        """The same with another published layer and those arguments of the basis that its basis has too."""
        changes: dict[str, Any] = {
            "layer": layer,
            "pointwise_layer": None,
            "layer_kwargs": None,
            "form": "plain",
        }
        if layer != PLAIN_LAYER:
            changes["basis"] = preset(layer)["basis"]
            legal = inspect.signature(BASES[changes["basis"]]).parameters
            given = self.basis_kwargs or {}
            changes["basis_kwargs"] = {key: value for key, value in given.items() if key in legal}
        return replace(self, **changes)
