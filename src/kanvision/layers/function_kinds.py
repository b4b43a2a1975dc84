"""Learned functions of each kind of layer; importing it registers them with `learned_functions`.

Shapes: M points, C input channels, G groups, O outputs, T taps, K functions of the basis.
"""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kanvision.bases.wavelet import WaveletBasis, define_wavelets
from kanvision.expansion.define import evaluate
from kanvision.ops.rational import rational

from .attention_units import AttentionUnits
from .base import KANLayer
from .conv import KANConvNd
from .edge_wavelet import EdgeWavelets
from .functions import Edge, LearnedFunctions, learned_functions
from .grid_inputs import num_channels
from .rational import GroupRational

__all__ = ["kan_functions", "learned_functions", "rational_functions", "unit_functions", "wavelet_functions"]

Layer = TypeVar("Layer", bound=nn.Module)


def _copy_exactly(layer: Layer) -> Layer:
    """Return a copy in float64 on the CPU, in evaluation mode."""
    return copy.deepcopy(layer).requires_grad_(False).cpu().double().eval()


@learned_functions.register
@torch.no_grad()
def kan_functions(layer: KANLayer) -> LearnedFunctions:
    """Return the functions of a KAN layer: base branch and basis branch of each edge and tap."""
    exact = _copy_exactly(layer)
    exact.norm = exact.act = nn.Identity()
    # A norm whose statistics depend on other inputs leaves no function of one input: x is then its output.
    is_elementwise = isinstance(exact.input_norm, nn.Identity | _BatchNorm)
    weight = exact._by_function(exact.edge_weight())  # (O, C/G, K, *k)
    outputs, per_group, num_basis, *kernel = weight.shape
    weight = weight.reshape(outputs, per_group, num_basis, -1).transpose(2, 3)
    base = exact.base_map() if is_elementwise else None
    if base is not None:
        weight = torch.cat([weight, base.reshape(outputs, per_group, -1, 1)], 3)
    return LearnedFunctions(
        weight,
        partial(_expand_kan, exact, base is not None),
        partial(_probe_kan, exact, is_elementwise),
        groups=layer.groups,
        kernel=tuple(kernel),
        domain=exact.basis.domain if exact.basis.squash in (None, "clamp") else None,
        argument="input" if is_elementwise else "output of the input norm; the basis branch alone",
        input_module=layer if is_elementwise else layer.input_norm,
        inputs=partial(_kan_inputs, 1 if layer.ndim else -1, is_elementwise),
    )


def _kan_inputs(channel_dim: int, is_elementwise: bool, args: Any, output: Any) -> Tensor:
    x: Tensor = args[0] if is_elementwise else output
    return x.movedim(channel_dim, -1)


def _expand_kan(layer: KANLayer, has_base: bool, points: Tensor, output: int) -> Tensor:
    x = points.unsqueeze(1).expand(-1, num_channels(layer))
    z = x
    if isinstance(layer.input_norm, _BatchNorm):
        z = layer.input_norm(x.reshape(*x.shape, *(1,) * layer.ndim)).flatten(1)
    values: Tensor = layer.basis_act(layer.basis(z))  # (M, C, K)
    if not has_base:
        return values
    assert layer.base_act is not None
    return torch.cat([values, layer.base_act(x).unsqueeze(-1)], -1)


def _probe_kan(layer: KANLayer, is_whole: bool, points: Tensor, edge: Edge) -> Tensor:
    x = points.new_zeros(len(points), num_channels(layer))
    at: tuple[int, ...] = ()
    if isinstance(layer, KANConvNd):
        # The first output whose taps all lie inside of the image.
        at = tuple(math.ceil(pad[0] / step) for pad, step in zip(layer.padding, layer.stride, strict=True))
        sizes: list[int] = []
        place: list[int] = []
        rest = edge.tap
        for axis in reversed(range(layer.ndim)):
            rest, position = divmod(rest, layer.kernel_size[axis])
            begin, spacing = at[axis] * layer.stride[axis] - layer.padding[axis][0], layer.dilation[axis]
            place.insert(0, begin + position * spacing)
            sizes.insert(0, begin + spacing * (layer.kernel_size[axis] - 1) + 1 + max(layer.padding[axis]))
        x = x.view(*x.shape, *(1,) * layer.ndim).repeat(1, 1, *sizes)
        x.movedim(0, -1)[(edge.channel, *place)] = points
    else:
        x[:, edge.channel] = points
    y = layer._transform(x) if is_whole else layer._basis_branch(x)
    return y.movedim(0, -1)[(edge.output, *at)]


@learned_functions.register
@torch.no_grad()
def wavelet_functions(layer: EdgeWavelets) -> LearnedFunctions:
    """Return the wavelets of Wav-KAN's edges, before the map that mixes the outputs."""
    exact = _copy_exactly(layer)
    exact.norm = exact.act = nn.Identity()
    outputs, per_group, *kernel = exact.basis_weight.shape
    mix = torch.eye(outputs // layer.groups, dtype=torch.float64).repeat(layer.groups, 1)
    exact.mix_weight.copy_(mix.view_as(exact.mix_weight))

    def expand(points: Tensor, output: int) -> Tensor:
        basis, group = exact.basis, output // (outputs // layer.groups)
        assert isinstance(basis, WaveletBasis)
        edges = [parameter[output].unsqueeze(1) for parameter in (exact.shift, exact.scale)]  # (C/G, 1)
        spread = points.reshape(-1, 1).expand(-1, per_group)
        values = points.new_zeros(len(points), per_group * layer.groups, 1)
        own = evaluate(define_wavelets(basis.kind, 1), spread, edges, 2, 1)  # (M, C/G, 1)
        values[:, group * per_group : (group + 1) * per_group] = own
        return values

    return LearnedFunctions(
        exact.basis_weight.reshape(outputs, per_group, -1, 1),
        expand,
        partial(_probe_kan, exact, False),
        groups=layer.groups,
        kernel=tuple(kernel),
        argument="input; the wavelet alone, before the map that mixes the outputs",
        is_shared=False,
        input_module=layer.input_norm,
        inputs=partial(_kan_inputs, 1, False),
    )


@learned_functions.register
@torch.no_grad()
def rational_functions(layer: GroupRational) -> LearnedFunctions:
    """Return the rational of each group of channels."""
    exact, groups = _copy_exactly(layer), layer.num_groups

    def expand(points: Tensor, output: int) -> Tensor:
        grid = points.unsqueeze(1).expand(-1, groups)  # one channel a group
        return rational(grid, exact.numerator, exact.denominator, form=exact.form).unsqueeze(-1)

    def probe(points: Tensor, edge: Edge) -> Tensor:
        x = points.new_zeros(len(points), layer.num_channels)
        channel = edge.channel * (layer.num_channels // groups)
        x[:, channel] = points
        shape = [1] * max(2, layer.channel_dim + 1)
        shape[0], shape[layer.channel_dim] = x.shape
        y: Tensor = exact(x.view(shape))
        return y.reshape(x.shape)[:, channel]

    def inputs(args: Any, output: Any) -> Tensor:
        return args[0].movedim(layer.channel_dim, -1).unflatten(-1, (groups, -1)).mT  # type: ignore[no-any-return]

    weight = torch.ones(groups, 1, 1, 1, dtype=torch.float64)
    return LearnedFunctions(weight, expand, probe, groups=groups, input_module=layer, inputs=inputs)


@learned_functions.register
@torch.no_grad()
def unit_functions(layer: AttentionUnits) -> LearnedFunctions:
    """Return the functions of Kolmogorov-Arnold attention; heads are groups, tokens are channels."""
    exact = _copy_exactly(layer)
    heads, outputs, inputs, size = exact.folded().shape

    def expand(points: Tensor, output: int) -> Tensor:
        x = points.view(1, 1, -1, 1).expand(1, heads, -1, inputs)
        return exact.functions(x)[0].transpose(0, 1).flatten(1, 2)  # (M, h N, F)

    def probe(points: Tensor, edge: Edge) -> Tensor:
        head, channel = divmod(edge.channel, inputs)
        x = points.new_zeros(1, heads, len(points), inputs)
        x[0, head, :, channel] = points
        y: Tensor = exact(x)
        return y[0, head, :, edge.output % outputs]

    domain = exact.basis.domain if exact.basis.squash in (None, "clamp") else None
    return LearnedFunctions(
        exact.folded().reshape(heads * outputs, inputs, 1, size),
        expand,
        probe,
        groups=heads,
        domain=domain,
        argument="input of a unit",
        input_module=layer,
        inputs=lambda args, output: args[0].transpose(1, 2).flatten(2),
    )
