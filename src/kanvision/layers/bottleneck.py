"""Bottleneck KAN layers: a basis expansion over fewer channels, between two plain projections.

Shapes: B batch, C channels, M inner channels, *S space, K basis functions, O output channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from kanvision.bases import Basis
from kanvision.bases.base import normal_quantiles
from kanvision.spec.models import DROP_POSITIONS, INNER_DROP_POSITIONS

from .activation import create_activation
from .base import KANLayer, _preserving_std, _uniform
from .composite import KAN_CONVS, PLAIN_CONVS, CompositeLayer
from .conv import KANConvNd
from .dropout import create_dropout
from .linear import KANLinear
from .norm import create_norm
from .options import KANOptions, check_channels

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

__all__ = [
    "Bottleneck",
    "BottleneckKANConv1d",
    "BottleneckKANConv2d",
    "BottleneckKANConv3d",
    "BottleneckKANConvNd",
    "BottleneckKANLinear",
    "inner_channels",
]


def inner_channels(in_channels: int, out_channels: int, dim_reduction: float, min_internal: int) -> int:
    """Return the width M of a bottleneck between C and O channels of one group.

    M = floor(max(C, O) / dim_reduction), and if that is below `min_internal`, min(min_internal, C, O).

    Raises:
        ValueError: An argument is not positive.
    """
    for key, value in (("dim_reduction", dim_reduction), ("min_internal", min_internal)):
        if not value > 0:
            raise ValueError(f"{key}={value} must be positive")
    width = int(max(in_channels, out_channels) / dim_reduction)
    return width if width >= min_internal else min(min_internal, in_channels, out_channels)


class Bottleneck(CompositeLayer):
    """Base class of bottleneck layers with `ndim` space axes, 0 for channels-last features.

    y = act(norm(base_weight . base_act(u) + expand(inner(squeeze(u))))),  u = drop(x)
    """

    squeeze: nn.Module
    inner: nn.Module
    expand: nn.Module
    base_weight: nn.Parameter | None
    base_act: nn.Module | None

    def _build(
        self,
        in_channels: int,
        out_channels: int,
        groups: int,
        inner_width: int,
        make_inner: Callable[[int, KANOptions], nn.Module],
        options: KANOptions,
    ) -> None:
        """Build all parts; `make_inner(width, options)` builds the middle one."""
        self.groups = groups
        self.inner_width = inner_width
        self.init = options.get("init", "variance_preserving")
        self.drop_rate = options.get("drop_rate", 0.0)
        self.drop_position = options.get("drop_position", "input")
        if self.drop_position not in DROP_POSITIONS:
            raise ValueError(
                f"drop_position={self.drop_position!r} is not known; "
                f"legal values: {', '.join(DROP_POSITIONS)}"
            )
        drop_kind = options.get("drop_kind", "noise")
        base_act = options.get("base_act", "silu")
        bias = options.get("bias", False)
        inner: KANOptions = {**options, "base_act": None, "norm": None, "act": None, "bias": False}
        inner["drop_kind"] = drop_kind
        if self.drop_position not in INNER_DROP_POSITIONS:
            inner["drop_rate"] = 0.0
        device, dtype = options.get("device"), options.get("dtype")
        with nullcontext() if device is None else torch.device(device):
            self.squeeze = self._projection(in_channels, inner_width, bias)
            self.inner = make_inner(inner_width, inner)
            self.expand = self._projection(inner_width, out_channels, bias)
            self.base_act = None if base_act is None else create_activation(base_act, key="base_act")
            affine = options.get("norm_affine", True)
            self.norm = create_norm(options.get("norm"), out_channels, self.ndim, affine=affine)
            self.act = create_activation(options.get("act"))
            self.drop = create_dropout(drop_kind, self.drop_rate, self.ndim)
            if self.base_act is None:
                self.register_parameter("base_weight", None)
            else:
                shape = (out_channels, in_channels // groups, *self._cores()[0].basis_weight.shape[2:])
                self.base_weight = nn.Parameter(torch.empty(shape))
        if dtype is not None:
            self.to(dtype=dtype)
        self._reset_own()

    def _projection(self, in_channels: int, out_channels: int, bias: bool) -> nn.Module:
        raise NotImplementedError

    def _cores(self) -> list[KANLayer]:
        """Return the layers in front of `expand`, all of which have the geometry of the base branch."""
        return [cast(KANLayer, self.inner)]

    @property
    def checkpoint(self) -> bool:
        """Return whether norm and activation are computed again in the backward pass, as in `KANLayer`."""
        return self._cores()[0].checkpoint

    @checkpoint.setter
    def checkpoint(self, enable: bool) -> None:
        for core in self._cores():
            core.checkpoint = enable

    def _transform(self, x: Tensor) -> Tensor:
        u = self._dropped("input", x)
        y = cast(Tensor, self.expand(self.inner(self.squeeze(u))))
        if self.base_act is not None:
            y = y + self._base_branch(u)
        return self._dropped("output", self._cores()[0]._finish(y, self.norm, self.act))

    def _base_branch(self, x: Tensor) -> Tensor:
        assert self.base_act is not None
        assert self.base_weight is not None
        return self._cores()[0]._map_activation(self.base_act, self.base_weight, x)

    def _dropped(self, position: str, x: Tensor) -> Tensor:
        drops = self.training and self.drop_rate > 0 and self.drop_position == position
        return cast(Tensor, self.drop(x)) if drops else x

    @torch.no_grad()
    def _reset_own(self) -> None:
        halves = self.init == "variance_preserving" and self.base_act is not None
        for projection, share in ((self.squeeze, 1.0), (self.expand, 0.5 if halves else 1.0)):
            if isinstance(projection, nn.Identity):  # after merge()
                continue
            weight = cast(Tensor, projection.weight)
            _uniform(weight, (share / weight.shape[1]) ** 0.5)
            if projection.bias is not None:
                cast(Tensor, projection.bias).zero_()
        if self.base_weight is None:
            return
        assert self.base_act is not None
        fan = self.base_weight[0].numel()
        if self.init == "variance_preserving":
            x = normal_quantiles(self.base_weight.device).to(self.base_weight.dtype)
            moment = self.base_act(x).float().square().mean()
            _uniform(self.base_weight, _preserving_std(0.5, fan, moment))
        elif self.init == "efficient_kan":
            bound = (self.base_weight[0, 0].numel() if self.ndim else fan) ** -0.5
            self.base_weight.uniform_(-bound, bound)
        else:
            _uniform(self.base_weight, fan**-0.5)

    @property
    def merged(self) -> bool:
        """Return True if `merge` was called."""
        return isinstance(self.expand, nn.Identity)

    @torch.no_grad()
    def merge(self) -> Self:
        """Fold `expand` into the weights of `inner`, for inference.

        Outputs are unchanged up to rounding. One linear map fewer is launched, but the merged one has O / M
        times the operations of the inner one, so it is faster only where launches dominate.

        Returns:
            The layer, changed in place: `expand` is the identity, and its state dictionary has the shapes of
            the merged map.

        Raises:
            ValueError: The layer is merged already or has adapters.
        """
        if self.merged:
            raise ValueError("this layer is merged already")
        if any(type(core).edge_weight is not KANLayer.edge_weight for core in self._cores()):
            raise ValueError("this layer has adapters; call merge_adapters on it first")
        mixing = torch.stack(cast(Tensor, self.expand.weight).flatten(1).chunk(self.groups))  # (g, O/g, M/g)
        for core in self._cores():
            weight = torch.stack(core.edge_weight().chunk(self.groups))  # (g, M/g, M/g K, *k)
            merged = torch.einsum("gom,gm...->go...", mixing, weight).flatten(0, 1)  # (O, M/g K, *k)
            core.basis_weight = nn.Parameter(merged.contiguous())
            core.edge_scale = None
            core.kan_parameters = tuple(name for name in core.kan_parameters if name != "edge_scale")
            core.bias = cast("nn.Parameter | None", self.expand.bias)
            setattr(core, "out_channels" if self.ndim else "out_features", merged.shape[0])
        self.expand = nn.Identity()
        return self


class BottleneckKANConvNd(Bottleneck):
    """Bottleneck KAN convolution: squeeze C -> M, basis expansion and convolution M -> M, expand M -> O.

    y = act(norm(conv(base_act(u), base_weight) + expand(inner(squeeze(u))))),  u = drop(x)

    `squeeze` and `expand` are 1x1 convolutions; `inner` is a `KANConvNd` that has no base branch, norm,
    activation or bias. One group with c = C/g, o = O/g and m = M/g channels and a kernel of t taps has
    t c o + c m + m o + K t m^2 weights, against (1 + K) t c o without bottleneck.

    Drokin 2024, "Kolmogorov-Arnold Convolutions" (arXiv 2407.01092), with the Gram and the ReLU basis; here
    with any. `get_preset("kagn", bottleneck=True)` are the arguments of the published layer.

    Args:
        in_channels: Number of input channels, C.
        out_channels: Number of output channels, O.
        kernel_size: An int or one per space axis, as are stride, padding and dilation; of the base and
            the inner convolution.
        stride: Stride of the kernel.
        padding: Padding on both sides of every axis, "same" (stride 1 only) or "valid".
        dilation: Dilation of the kernel.
        groups: Number of independent groups of channels; divides C and O.
        padding_mode: "zeros", "reflect", "replicate" or "circular".
        basis: Short name or a ready basis; a basis with learnable parameters has one set per inner channel.
        dim_reduction: A group gets m = floor(max(c, o) / dim_reduction) inner channels.
        min_internal: If that is less than this, m = min(min_internal, c, o).
        pad_space: As in `KANConvNd`.
        **options: As in `kanvision.layers.base.KANLayer`, with these differences: `input_norm` and
            `edge_scale` belong to the inner convolution; `bias` adds biases to squeeze and expand;
            `drop_kind` is "noise" and `drop_position` "input" if they are not given, as published; dropout at
            "branch", "squashed" or "basis" is that of the inner convolution; `init` rules base and inner
            weights, and squeeze and expand are U(-b, b), b = sqrt(3 / fan) (with "variance_preserving" and a
            base branch expand is smaller by sqrt(2), for a unit mean square of the sum).

    Raises:
        ValueError: A size, a name or a combination of them is not legal.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        padding_mode: str = "zeros",
        basis: str | Basis = "bspline",
        *,
        dim_reduction: float = 4,
        min_internal: int = 16,
        pad_space: str = "basis",
        **options: Unpack[KANOptions],
    ) -> None:
        super().__init__()
        check_channels(in_channels, out_channels, groups)
        self.in_channels = in_channels
        self.out_channels = out_channels
        width = inner_channels(in_channels // groups, out_channels // groups, dim_reduction, min_internal)

        def make_inner(width: int, options: KANOptions) -> nn.Module:
            geometry = (kernel_size, stride, padding, dilation, groups, padding_mode, basis)
            return self._make_inner(width, *geometry, pad_space=pad_space, **options)

        self._build(in_channels, out_channels, groups, width * groups, make_inner, options)

    def _make_inner(self, width: int, *geometry: Any, **options: Any) -> nn.Module:
        return KAN_CONVS[self.ndim](width, width, *geometry, **options)

    def _projection(self, in_channels: int, out_channels: int, bias: bool) -> nn.Module:
        return PLAIN_CONVS[self.ndim](in_channels, out_channels, 1, groups=self.groups, bias=bias)

    def _base_branch(self, x: Tensor) -> Tensor:
        return super()._base_branch(cast(KANConvNd, self._cores()[0])._padded(x))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, *S) to (B, O, *S').

        Raises:
            ValueError: if `x` does not have C channels and the right number of space axes.
        """
        self._check_map(x, self.in_channels)
        return self._transform(x)

    def extra_repr(self) -> str:
        """Return the widths for `repr`."""
        return f"{self.in_channels}, {self.out_channels}, inner_width={self.inner_width}, init={self.init!r}"


class BottleneckKANConv1d(BottleneckKANConvNd):
    """Bottleneck KAN convolution (B, C, L) -> (B, O, L') with the arguments of `BottleneckKANConvNd`."""

    ndim = 1


class BottleneckKANConv2d(BottleneckKANConvNd):
    """Bottleneck KAN convolution (B, C, H, W) -> (B, O, H', W'); see `BottleneckKANConvNd`."""

    ndim = 2


class BottleneckKANConv3d(BottleneckKANConvNd):
    """Bottleneck KAN convolution (B, C, D, H, W) -> (B, O, D', H', W'); see `BottleneckKANConvNd`."""

    ndim = 3


class BottleneckKANLinear(Bottleneck):
    """Bottleneck KAN layer on the last axis: (..., C) -> (..., O).

    y = act(norm(base_weight base_act(u) + expand(inner(squeeze(u))))),  u = drop(x)

    `squeeze` and `expand` are linear maps with biases and `inner` is a `KANLinear` without base branch, norm
    and activation: C O + C M + M + K M^2 + M O + O weights. Drokin 2024 (arXiv 2407.01092), there with the
    Gram basis and with Xavier instead of Kaiming start values of the projections.

    Args:
        in_features: Number of input features, C.
        out_features: Number of output features, O.
        basis: Short name or a ready basis; a basis with learnable parameters has one set per inner feature.
        dim_reduction: M = floor(max(C, O) / dim_reduction).
        min_internal: If that is less than this, M = min(min_internal, C, O).
        **options: As in `BottleneckKANConvNd`; `bias` is True by default.

    Raises:
        ValueError: A size is not positive or a name is not known.
    """

    ndim = 0

    def __init__(
        self,
        in_features: int,
        out_features: int,
        basis: str | Basis = "bspline",
        *,
        dim_reduction: float = 8,
        min_internal: int = 16,
        **options: Unpack[KANOptions],
    ) -> None:
        super().__init__()
        for key, value in (("in_features", in_features), ("out_features", out_features)):
            if value < 1:
                raise ValueError(f"{key}={value} must be at least 1")
        self.in_features = in_features
        self.out_features = out_features
        width = inner_channels(in_features, out_features, dim_reduction, min_internal)

        def make_inner(width: int, options: KANOptions) -> nn.Module:
            return KANLinear(width, width, basis, **options)

        self._build(
            in_features, out_features, 1, width, make_inner, {**options, "bias": options.get("bias", True)}
        )

    def _projection(self, in_channels: int, out_channels: int, bias: bool) -> nn.Module:
        return nn.Linear(in_channels, out_channels, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C) to (..., O).

        Raises:
            ValueError: The last axis of `x` does not have C entries.
        """
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(f"in_features={self.in_features}, got an input of shape {tuple(x.shape)}")
        return self._transform(x)

    def extra_repr(self) -> str:
        """Return the widths for `repr`."""
        return f"{self.in_features}, {self.out_features}, inner_width={self.inner_width}, init={self.init!r}"
