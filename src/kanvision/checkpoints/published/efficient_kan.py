"""Weights of Blealtan/efficient-kan: linear KAN layers over B-splines, and stacks of them.

Shapes: C inputs, O outputs, G cells, k degree, K = G + k basis functions.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn

from kanvision.checkpoints.io import CheckpointError
from kanvision.layers import KANLinear, get_preset

from .strict import Problems, Shape, Tensors, below, most_voted, only

__all__ = ["OPTIONS", "infer_basis", "infer_degree", "load_efficient_kan"]

OPTIONS = {"base_act": "silu"}
"""What the tensors do not tell, with the published default."""


def load_efficient_kan(found: Tensors, **options: Any) -> nn.Module:
    """A layer, or a stack `layers.0`, `layers.1` ... as a sequence of `KANLinear`.

    Args:
        found: Published tensors by name.
        **options: `base_act`, the activation of the base branch.

    Returns:
        The layer or stack here, with these weights.

    Raises:
        CheckpointError: If a name is missing, unexpected or of another shape, or a grid cannot be held.
        ValueError: If an option is not legal.
    """
    chosen = only(options, OPTIONS, "source='efficient-kan'")
    indices = {int(match[1]) for name in found if (match := re.match(r"layers\.(\d+)\.", name))}
    prefixes = [f"layers.{index}." for index in sorted(indices)] or [""]
    layers = {prefix: _Layer(below(found, prefix)) for prefix in prefixes}
    problems = Problems()
    for prefix, layer in layers.items():
        problems.compare(layer.found, layer.wanted(), prefix)
    if indices:
        problems.compare({k: v for k, v in found.items() if not k.startswith(tuple(prefixes))}, {})
    problems.raise_if_any("efficient-kan")
    built = [layer.build(prefix, chosen["base_act"]) for prefix, layer in layers.items()]
    return nn.Sequential(*built) if indices else built[0]


class _Layer:
    """Sizes of a layer; the grid has G + 2k + 1 knots and the weights G + k functions, which tells both."""

    def __init__(self, found: Tensors) -> None:
        self.found = found
        edges = [
            found[name].shape for name in ("base_weight", "spline_weight", "spline_scaler") if name in found
        ]
        edges = [shape for shape in edges if len(shape) > 1]
        grids = [found["grid"].shape] if "grid" in found and found["grid"].ndim == 2 else []
        self.outputs = most_voted("the number of outputs", [shape[0] for shape in edges])
        inputs = [shape[1] for shape in edges] + [shape[0] for shape in grids]
        self.inputs = most_voted("the number of inputs", inputs)
        counts = [shape[2] for shape in edges if len(shape) == 3]
        self.num_basis = most_voted("the number of basis functions", counts)
        self.num_knots = most_voted("the number of knots", [shape[1] for shape in grids])
        self.degree = infer_degree(self.num_knots, self.num_basis)

    def wanted(self) -> dict[str, Shape]:
        """Names and shapes of the tensors; the standalone scale of the splines is an option there."""
        edge = (self.outputs, self.inputs)
        shapes: dict[str, Shape] = {
            "grid": (self.inputs, self.num_knots),
            "base_weight": edge,
            "spline_weight": (*edge, self.num_basis),
        }
        return shapes | ({"spline_scaler": edge} if "spline_scaler" in self.found else {})

    def build(self, prefix: str, base_act: str | None) -> KANLinear:
        """The layer with its weights; the tensors were checked before."""
        found, weight = self.found, self.found["spline_weight"]
        scaled = "spline_scaler" in found
        layer = KANLinear(
            self.inputs,
            self.outputs,
            dtype=weight.dtype,
            device=weight.device,
            **get_preset(
                "efficient_kan",
                linear=True,
                base_act=base_act,
                edge_scale=scaled,
                basis_kwargs=infer_basis(found["grid"], self.degree, f"{prefix}grid"),
            ),
        )
        state = {"base_weight": found["base_weight"], "basis_weight": weight.flatten(1)}
        state |= {"edge_scale": found["spline_scaler"]} if scaled else {}
        layer.load_state_dict({**state, "basis.knots": found["grid"][0]})
        return layer


def infer_degree(num_knots: int, num_basis: int) -> int:
    """Degree k of K functions on K + k + 1 knots.

    Raises:
        CheckpointError: If there is none.
    """
    degree = num_knots - 1 - num_basis
    if not 0 <= degree < num_basis:
        raise CheckpointError(
            f"the published weights have {num_basis} basis functions on {num_knots} knots, "
            "which no degree makes"
        )
    return degree


def infer_basis(grid: Tensor, degree: int, name: str) -> dict[str, Any]:
    """Arguments of the basis with the knots of a published grid.

    Args:
        grid: Knots (C, n) of each feature.
        degree: k.
        name: Of the tensor.

    Raises:
        CheckpointError: If features have different knots, or knots do not increase.
    """
    grid = grid.double()
    knots = grid[0]
    if not torch.equal(grid, knots.expand_as(grid)):
        features = int((grid != knots).any(1).sum())
        raise CheckpointError(
            f"{name}: {features} of {len(grid)} features have other knots than the first "
            "(update_grid was called); a basis here has one set of knots for all"
        )
    if not bool((knots.diff() > 0).all()):
        raise CheckpointError(f"{name}: the knots do not increase: {knots.tolist()}")
    if _equidistant(knots):
        ends = (float(knots[degree]), float(knots[-degree - 1]))
        return {"degree": degree, "grid_size": len(knots) - 2 * degree - 1, "grid_range": ends}
    return {"degree": degree, "knots": knots.tolist()}


def _equidistant(knots: Tensor) -> bool:
    """Return True if knots are equidistant up to the rounding of single precision."""
    even = torch.linspace(0, 1, len(knots), dtype=knots.dtype, device=knots.device)
    even = knots[0] + (knots[-1] - knots[0]) * even
    return bool((knots - even).abs().max() <= 1e-6 * knots.abs().max())
