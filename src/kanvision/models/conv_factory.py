"""Factory of the convolutions of a network, KAN or plain, from one set of options.

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
    find_default_preset,
    get_preset,
)
from kanvision.layers.conv import KANConvNd
from kanvision.spec.models import FORMS, NORMS

__all__ = ["ConvFactory"]


@dataclass(frozen=True, kw_only=True)
class ConvFactory:
    """Factory of the convolutions of a network: `factory.conv(64, 128, stride=2)`.

    The fields are arguments of every network of KAN convolutions (`kanvision.models.backbone.KANBackbone`).

    Args:
        basis: Short name of the basis.
        basis_kwargs: Arguments of the basis.
        preset: Published layer to reproduce, a key of `kanvision.layers.PRESETS`. None selects the layer that
            was published with this basis, and SiLU(norm(base + basis)) for a basis without one. "wavkan" has
            a wavelet for each edge, which takes O times the work for O output channels; basis="wavelet" alone
            has one for each input channel.
        plain: True builds the plain twin: ReLU(norm(convolution + bias)) instead of every KAN convolution.
            "pointwise" does so for 1x1 convolutions only.
        pointwise_preset: Published layer for 1x1 convolutions if it differs from `preset`.
        layer_kwargs: Further arguments of the layer (`base_act`, `pad_space`, ...); they override all others.
        form: Structure of a convolution, one of `FORMS`: a single convolution ("plain"), a convolution over
            fewer channels between two projections ("bottleneck"), a mixture of experts that are convolutions
            ("moe"), or a bottleneck with a mixture inside ("moe_bottleneck"). 1x1 convolutions are never
            mixtures, and the first convolution is one in ConvKAN only.
        norm: Normalization, at the position where the layer has one; None or "none" for no normalization.
        norm_affine: Give norms a learnable scale and shift.
        groups: Groups of every convolution larger than 1x1 except the first.
        layer_drop_rate: Dropout rate inside every convolution except the first.
        layer_drop_kind: "channel", "element" or "noise"; None is the kind published with the layer.
        layer_drop_position: Position of the dropout in a layer: "input", "branch", "squashed", "basis" or
            "output"; None is the position published with the layer.
        dim_reduction: Number of channels divided by the number of inner channels of a bottleneck.
        pointwise_reduction: The reduction of 1x1 bottlenecks.
        num_experts: Number of experts of a mixture.
        top_k: Number of experts that process one sample.
        moe_kwargs: Further arguments of mixtures (`noisy`, `loss_coef`, `pregate`, `evaluation`).
        attention_kwargs: Arguments of self-attention (`num_heads`, `scale`, `parity`, `post_norm`).
        device: Device of the parameters.
        dtype: Data type of the parameters.

    Raises:
        ValueError: A value is not legal; the message names it.
    """

    basis: str = "gram"
    basis_kwargs: Mapping[str, Any] | None = None
    preset: str | None = None
    plain: bool | str = False
    pointwise_preset: str | None = None
    layer_kwargs: Mapping[str, Any] | None = None
    form: str = "plain"
    norm: str | None = "batch"
    norm_affine: bool = True
    groups: int = 1
    layer_drop_rate: float = 0.0
    layer_drop_kind: str | None = None
    layer_drop_position: str | None = None
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
        if self.plain not in (True, False, "pointwise"):
            raise ValueError(f"plain={self.plain!r} is not known; legal values: True, False, 'pointwise'")
        if self.is_plain:
            for key in ("preset", "form"):
                if getattr(self, key) not in (None, "plain"):
                    raise ValueError(f"plain=True: plain convolutions have no {key}={getattr(self, key)!r}")
        elif self.preset == "wavkan" and self._is_bottleneck:
            raise ValueError(f"preset='wavkan' has no form={self.form!r}; use form='plain'")
        elif self.preset is not None and self._published_options["basis"] != self.basis:
            raise ValueError(
                f"preset={self.preset!r} has basis={self._published_options['basis']!r}, not {self.basis!r}"
            )

    @classmethod
    def split(cls, options: Mapping[str, Any]) -> tuple[ConvFactory, dict[str, Any]]:
        """Return a factory from the options that are its fields, and the other options."""
        names = {field.name for field in fields(cls)}
        own = {key: value for key, value in options.items() if key in names}
        return cls(**own), {key: value for key, value in options.items() if key not in names}

    @classmethod
    def from_options(cls, network: str, options: Mapping[str, Any]) -> ConvFactory:
        """Return a factory from the options of a network that has no other options.

        Raises:
            ValueError: An option is not a field of the factory, or a value is not legal.
        """
        factory, unknown = cls.split(options)
        if unknown:
            raise ValueError(f"{network} has no argument {', '.join(sorted(unknown))}")
        return factory

    @property
    def is_plain(self) -> bool:
        """Return True if all convolutions are plain."""
        return self.plain is True

    @property
    def _is_bottleneck(self) -> bool:
        return self.form.endswith("bottleneck")

    @property
    def _published_options(self) -> dict[str, Any]:
        """Return the arguments of the published layer; by default those of SiLU(norm(base + basis))."""
        name = self.preset or find_default_preset(self.basis)
        if name is None:
            return {
                "basis": self.basis,
                "basis_kwargs": {},
                "base_act": "silu",
                "norm": "batch",
                "act": "silu",
            }
        return get_preset(name, bottleneck=self._is_bottleneck)

    @property
    def _options(self) -> dict[str, Any]:
        """Return the arguments of every convolution; `norm` replaces the norm of the published layer."""
        options = self._published_options
        options["basis_kwargs"] = {**options["basis_kwargs"], **(self.basis_kwargs or {})}
        for key in ("norm", "input_norm"):
            if options.get(key) in NORMS:
                options[key] = self.norm
        for name in ("kind", "position"):
            value = getattr(self, f"layer_drop_{name}")
            if value is not None:
                options[f"drop_{name}"] = value
        tensors = {"norm_affine": self.norm_affine, "device": self.device, "dtype": self.dtype}
        return {**options, **tensors, **(self.layer_kwargs or {})}

    def width(self, channels: int, scale: float = 1.0) -> int:
        """Return `channels` times `scale`, rounded to a multiple of `groups`, at least `groups`."""
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
        """Build a convolution (B, in_channels, H, W) -> (B, out_channels, H', W').

        Args:
            in_channels: Number of input channels.
            out_channels: Number of output channels.
            kernel_size: Side of the kernel.
            stride: Stride of the kernel.
            padding: Pixels of padding, or "same"; None keeps the size of the map at stride 1 for odd kernels.
            dilation: Dilation of the kernel.
            groups: Number of groups; None is that of the network, or 1 for a 1x1 kernel.
            drop_rate: Dropout rate; None is that of the network.
            dim_reduction: Reduction of a bottleneck; None is that of the network.
            mixture: Allow a mixture of experts, if the kernel is larger than 1x1.
        """
        if kernel_size == 1 and (other := self._pointwise) is not None:
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
            default = self.dim_reduction if kernel_size > 1 else self.pointwise_reduction
            options["dim_reduction"] = default if dim_reduction is None else dim_reduction
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
        return EdgeWaveletConv2d if self.preset == "wavkan" else KANConv2d

    @property
    def _pointwise(self) -> ConvFactory | None:
        """Return the factory of 1x1 convolutions if they differ from the other convolutions."""
        if self.pointwise_preset is not None:
            return self.with_preset(self.pointwise_preset)
        return self.as_plain() if self.plain == "pointwise" else None

    def first(self, in_channels: int, out_channels: int, kernel_size: int = 3, **options: Any) -> nn.Module:
        """Build the first convolution of a network, as `conv` does: one group, no dropout, no mixture."""
        options = {"groups": 1, "drop_rate": 0.0, "mixture": False, **options}
        return self.conv(in_channels, out_channels, kernel_size, **options)

    def depthwise(self, channels: int, kernel_size: int, **options: Any) -> nn.Module:
        """Build a depthwise convolution (B, C, H, W) -> (B, C, H, W), as `conv` does."""
        options = {"groups": channels, **options}
        return self.with_form("plain").conv(channels, channels, kernel_size, **options)

    def attention(self, channels: int, reduction: float | None = None) -> nn.Module:
        """Build self-attention (B, C, H, W) -> (B, C, H, W) whose projections are 3x3 convolutions.

        Args:
            channels: Number of channels, C.
            reduction: C divided by the width of the attention; None keeps C, without projections around it.
        """
        width = None if reduction is None else self.width(channels, 1 / reduction)
        own: dict[str, Any] = {"groups": self.groups, **(self.attention_kwargs or {})}
        if self.form in ("plain", "moe") and self._conv_class is KANConv2d and not self.is_plain:
            # queries, keys and values then come from one convolution
            options = {"drop_rate": self.layer_drop_rate, **self._options, **own}
            return KANSelfAttention2d(channels, width, **options)

        def project(in_channels: int, out_channels: int, kernel_size: int, **_: Any) -> nn.Module:
            return self.conv(in_channels, out_channels, kernel_size, mixture=False)

        own |= {"norm_affine": self.norm_affine, "device": self.device, "dtype": self.dtype}
        return KANSelfAttention2d(channels, width, conv=project, **own)

    def focal(self, channels: int, **kwargs: Any) -> nn.Module:
        """Build focal modulation (B, C, H, W) -> (B, C, H, W).

        Args:
            channels: Number of channels, C.
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
        tensors: dict[str, Any] = {"device": self.device, "dtype": self.dtype}
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if drop_rate:
            layers["drop"] = nn.Dropout2d(drop_rate)
        layers["conv"] = nn.Conv2d(in_channels, out_channels, **geometry, **tensors)
        layers["norm"] = create_norm(self.norm, out_channels, 2, affine=self.norm_affine).to(**tensors)
        layers["act"] = nn.ReLU()
        return nn.Sequential(layers)

    def linear(
        self, in_features: int, out_features: int, basis_kwargs: Mapping[str, Any] | None = None
    ) -> nn.Module:
        """Build the fully connected layer of the same kind, for the head of a network.

        Args:
            in_features: Number of input features.
            out_features: Number of output features.
            basis_kwargs: Arguments of the basis that differ from those of the convolutions.

        Raises:
            ValueError: The convolutions are plain.
        """
        if self.is_plain:
            raise ValueError("plain=True: a plain network has no KAN layer in its head; use head='linear'")
        name = self.preset or find_default_preset(self.basis)
        options: dict[str, Any] = {"basis": self.basis}
        if name is not None:
            options = get_preset(name, linear=True, bottleneck=self._is_bottleneck)
        options["basis_kwargs"] = {
            **options.get("basis_kwargs", {}),
            **(self.basis_kwargs or {}),
            **(basis_kwargs or {}),
        }
        cls = BottleneckKANLinear if self._is_bottleneck else KANLinear
        return cls(in_features, out_features, **options, device=self.device, dtype=self.dtype)

    def with_form(self, form: str) -> ConvFactory:
        """Return this factory with another form."""
        return replace(self, form=form)

    def as_plain(self) -> ConvFactory:
        """Return this factory with plain convolutions."""
        return replace(self, plain=True, preset=None, pointwise_preset=None, form="plain")

    def with_preset(self, preset: str) -> ConvFactory:
        """Return this factory with another published layer and the arguments of the basis that both have."""
        basis = get_preset(preset)["basis"]
        legal = inspect.signature(BASES[basis]).parameters
        return replace(
            self,
            preset=preset,
            plain=False,
            pointwise_preset=None,
            layer_kwargs=None,
            form="plain",
            basis=basis,
            basis_kwargs={key: value for key, value in (self.basis_kwargs or {}).items() if key in legal},
        )
