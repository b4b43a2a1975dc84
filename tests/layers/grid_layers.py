"""Layers on grids and inputs for them: shared by the tests of grid care."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor

from kanvision.layers import KANConv1d, KANConv2d, KANConv3d, KANLinear
from kanvision.layers.base import KANLayer

DATA = {
    "normal": lambda x: x,
    "shifted": lambda x: 2 + 0.5 * x,
    "narrow": lambda x: 0.2 * x,
    "relu": torch.relu,
    "channels of many sizes": lambda x: (
        x * torch.logspace(-2, 0.3, x.shape[1]).view(1, -1, *[1] * (x.ndim - 2))
    ),
    "smooth images": lambda x: x.cumsum(-1) / x.shape[-1] ** 0.5,
}
LAYERS: dict[str, Any] = {
    "linear": lambda **kw: KANLinear(6, 5, **kw),
    "conv1d": lambda **kw: KANConv1d(6, 4, 3, padding=1, **kw),
    "conv2d": lambda **kw: KANConv2d(6, 4, 3, padding=1, groups=2, **kw),
    "strided": lambda **kw: KANConv2d(6, 4, 3, padding=1, stride=2, dilation=2, **kw),
    "reflected": lambda **kw: KANConv2d(6, 4, 3, padding=1, padding_mode="reflect", **kw),
    "depthwise": lambda **kw: KANConv2d(6, 6, 3, padding=1, groups=6, **kw),
    "conv3d": lambda **kw: KANConv3d(6, 2, (1, 2, 3), **kw),
}
GRIDS: dict[str, dict[str, Any]] = {
    "bspline": {"basis": "bspline", "basis_kwargs": {"grid_size": 8}},
    "linear splines": {"basis": "bspline", "basis_kwargs": {"grid_size": 12, "degree": 1}},
    "degree 6": {"basis": "bspline", "basis_kwargs": {"grid_size": 8, "degree": 6}},
    "rbf": {"basis": "rbf", "basis_kwargs": {"num_centers": 10, "width": 0.9}},
    "rswaf": {"basis": "rswaf", "basis_kwargs": {"num_centers": 10, "width": 0.9}},
}


def build(
    layer: str = "linear", grid: str = "bspline", domain: tuple[float, float] = (-4.0, 4.0), **kw: Any
) -> Any:
    torch.manual_seed(0)
    given = copy.deepcopy(GRIDS[grid])
    given["basis_kwargs"] |= {"grid_range": domain, **kw.pop("basis_kwargs", {})}
    built = LAYERS[layer](**{"base_act": None, **given, **kw})
    return built


def learned(layer: KANLayer) -> Any:
    """Weights of smooth functions, as training leaves them."""
    out, maps, *kernel = layer.basis_weight.shape
    num_basis = layer.basis.num_basis
    position = torch.linspace(-1, 1, num_basis).view(-1, *[1] * len(kernel))
    rate, phase = (torch.rand(out, maps // num_basis, 1, *kernel) for _ in range(2))
    with torch.no_grad():
        layer.basis_weight.copy_((2.5 * rate * position + 6 * phase).sin().flatten(1, 2))
        if layer.edge_scale is not None:
            layer.edge_scale.uniform_(-2, 2)
    return layer


def sample(layer: str, kind: str = "normal", count: int = 300) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    space = {"linear": (), "conv1d": (9,), "conv3d": (2, 3, 4)}.get(layer, (6, 6))
    return DATA[kind](
        torch.randn(
            max(2, count // max(1, math.prod(space))) if space else count, 6, *space, generator=generator
        )
    )


def relative(after: Tensor, before: Tensor) -> float:
    return float(((after - before).norm() / before.norm()).detach())
