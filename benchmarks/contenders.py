"""Modules that kanvision is compared with: free expansions, and plain formulas under autograd.

Shapes: B batch, C channels, K functions, O outputs, *S space.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kanvision.bases import BSplineBasis
from kanvision.expansion.define import evaluate
from kanvision.layers import GroupRational, KANLinear
from kanvision.layers.base import KANLayer
from kanvision.layers.conv import KANConvNd
from kanvision.ops.bspline import EVALUATIONS, define_bspline, legal_evaluations
from kanvision.ops.rational import rational_reference

__all__ = [
    "Contraction",
    "PlainRational",
    "RecursiveKANLinear",
    "bspline_evaluations",
    "free_expansions",
    "plain_layer",
    "replace",
]

_CONV: dict[int, Callable[..., nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def replace(
    network: nn.Module, kind: type[nn.Module] | tuple[type[nn.Module], ...], make: Callable[[Any], nn.Module]
) -> nn.Module:
    """Return a copy of a network, or of a layer, with all modules of a kind replaced."""
    if isinstance(network, kind):
        return make(network)
    changed = copy.deepcopy(network)
    for name, module in [*changed.named_modules()]:
        if isinstance(module, kind):
            changed.set_submodule(name, make(module))
    return changed


def free_expansions(network: nn.Module) -> nn.Module:
    """Return a copy whose learned functions cost nothing: their maps are ready, rationals are left out."""
    linear = replace(network, KANLayer, Contraction)
    return replace(linear, GroupRational, lambda _: nn.Identity())


def plain_layer(layer: KANLayer) -> nn.Sequential:
    """Return the plain layer of the same width, with the same norm and activation."""
    return nn.Sequential(_linear_map(layer, 1), copy.deepcopy(layer.norm), copy.deepcopy(layer.act))


def _linear_map(layer: KANLayer, num_maps: int) -> nn.Module:
    """Return a plain linear map of as many maps for each channel."""
    out, bias = len(layer.basis_weight), layer.bias is not None
    if not isinstance(layer, KANConvNd):
        return nn.Linear(layer.basis_weight.shape[1] // layer.basis.num_basis * num_maps, out, bias)
    padding = tuple(before for before, _ in layer.padding)
    geometry = (layer.kernel_size, layer.stride, padding, layer.dilation, layer.groups, bias)
    return _CONV[layer.ndim](layer.in_channels * num_maps, out, *geometry)


class Contraction(nn.Module):
    """Linear map of a KAN layer on ready maps, those of the base branch included, norm and activation.

    A constant function takes no map. The gradient of the input is that of its first maps, so that networks of
    such layers do all work of a network of KAN layers but the functions.

    Args:
        layer: The KAN layer.
    """

    def __init__(self, layer: KANLayer) -> None:
        super().__init__()
        basis = layer.basis
        varying = basis.num_basis - int(basis.has_constant and basis.num_basis > 1)
        self.num_maps = varying + int(layer.base_act is not None)
        self.channel_dim = 1 if layer.ndim else -1
        self.linear = _linear_map(layer, self.num_maps)
        self.norm, self.act = copy.deepcopy(layer.norm), copy.deepcopy(layer.act)
        self.maps: dict[tuple[Any, ...], Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, *S) to (B, O, *S'), or (..., C) to (..., O)."""
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        key = (x.shape, dtype)
        if key not in self.maps:
            repeated = [x.detach().to(dtype)] * self.num_maps
            self.maps[key] = torch.cat(repeated, self.channel_dim)
        y: Tensor = self.act(self.norm(self.linear(_ReadyMaps.apply(x, self.maps[key], self.channel_dim))))
        return y


class _ReadyMaps(torch.autograd.Function):
    """Maps that pass the gradient of the first ones on."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, maps: Tensor, dim: int) -> Tensor:
        ctx.dim, ctx.channels, ctx.dtype = dim, x.shape[dim], x.dtype
        return maps.view_as(maps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return grads[0].narrow(ctx.dim, 0, ctx.channels).to(ctx.dtype), None, None


class PlainRational(nn.Module):
    """Group rational that autograd differentiates.

    Args:
        layer: The rational, whose parameters it shares.
    """

    def __init__(self, layer: GroupRational) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate the plain formula."""
        layer = self.layer
        return rational_reference(x, layer.numerator, layer.denominator, layer.channel_dim, layer.form)


class _PlainCoxDeBoor(nn.Module):
    """B-splines by the recursion of Cox and de Boor, differentiated step by step."""

    def __init__(self, basis: BSplineBasis) -> None:
        super().__init__()
        self.basis = basis

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C) to (..., C, K)."""
        knots = self.basis.knots
        definition = define_bspline(len(knots), self.basis.degree, uniform=False)
        return evaluate(definition, x, (knots,), x.ndim, x.ndim - 1)


def bspline_evaluations(grid_size: int, degree: int) -> dict[str, nn.Module]:
    """Return a basis of B-splines by its default, by every legal evaluation, and by the plain recursion."""
    legal = legal_evaluations(degree, uniform=True)
    found: dict[str, nn.Module] = {"kanvision": BSplineBasis(grid_size, degree)}
    for name in EVALUATIONS:
        if name != "auto" and name in legal:
            found[name] = BSplineBasis(grid_size, degree, evaluation=name)
    return {**found, "recursion": _PlainCoxDeBoor(BSplineBasis(grid_size, degree))}


class RecursiveKANLinear(nn.Module):
    """Published layer of U-KAN: W_b SiLU(x) + sum_k B_k(x) (W_s s), with B_k by the recursion.

    Args:
        layer: Ours, whose parameters it shares.
    """

    def __init__(self, layer: KANLinear) -> None:
        super().__init__()
        assert isinstance(layer.basis, BSplineBasis)
        assert layer.edge_scale is not None
        self.degree = layer.basis.degree
        self.base_weight, self.spline_weight = layer.base_weight, layer.basis_weight
        self.spline_scaler = layer.edge_scale
        self.register_buffer("grid", layer.basis.knots.detach().repeat(layer.in_features, 1))  # (C, n + 1)

    def splines(self, x: Tensor) -> Tensor:
        """Map (N, C) to (N, C, K)."""
        grid, x = self.grid, x.unsqueeze(-1)
        values = ((x >= grid[:, :-1]) & (x < grid[:, 1:])).to(x.dtype)
        for q in range(1, self.degree + 1):
            rise = (x - grid[:, : -(q + 1)]) / (grid[:, q:-1] - grid[:, : -(q + 1)])
            fall = (grid[:, q + 1 :] - x) / (grid[:, q + 1 :] - grid[:, 1:-q])
            values = rise * values[..., :-1] + fall * values[..., 1:]
        return values.contiguous()

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C) to (..., O)."""
        tokens = x.reshape(-1, x.shape[-1])  # (N, C)
        outputs, inputs = self.spline_scaler.shape
        weight = self.spline_weight.view(outputs, inputs, -1) * self.spline_scaler.unsqueeze(-1)
        y = F.linear(F.silu(tokens), self.base_weight)
        y = y + F.linear(self.splines(tokens).flatten(1), weight.flatten(1))
        return y.view(*x.shape[:-1], outputs)
