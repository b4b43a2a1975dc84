"""Adaptation of grids: move the grid of a layer to its inputs, extend it, or refine it.

Outside of its grid a layer has only its base branch. Every change in this module keeps the functions that a
layer has learned, w' . phi_new = w . phi_old, with w' = M w for the K weights of each
channel c, output and tap of the kernel (Liu et al. 2024, "KAN", arXiv 2404.19756, fit samples instead):

* `move_grids`: a moved grid with as many functions. Weighted least squares, M_c = A_c^-1 B_c with the normal
  equations A_c = E[phi_new phi_new^T], B_c = E[phi_new phi_old^T] over the inputs of the channel. The
  inputs are represented by a histogram per channel, so no samples are stored and processes add integers. A
  grid with wider cells cannot represent every function: `max_change` bounds the relative change.
* `init_grids`: a moved grid without a fit, for untrained networks.
* `extend_grid`: more functions of the same width at the ends. Exact.
* `refine_grid`: more and narrower functions. Exact on the domain, for B-splines.

Shapes: C channels, G groups, O outputs, K functions before and K' after a change, *k kernel, M bins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn

from kanvision.bases import GridBasis

from .base import KANLayer
from .grid_fit import fine_histogram, fit_functions, map_functions
from .grid_inputs import GridSite, grid_sites, measure_inputs, observe
from .input_statistics import InputHistogram, InputRange
from .structure import structural_change

__all__ = [
    "GridMove",
    "extend_grid",
    "init_grids",
    "map_functions",
    "move_grids",
    "refine_grid",
    "target_domain",
]

_FRACTIONS = tuple(0.5**halvings for halvings in range(7))


def target_domain(
    values: InputRange, domain: tuple[float, float], quantile: float, margin: float
) -> tuple[float, float]:
    """Return the domain for some inputs: from their `quantile` to their `1 - quantile`, plus a margin.

    Args:
        values: Statistics of the inputs.
        domain: Current domain. Its width is kept for (nearly) constant inputs, and it is only shifted if they
            lie outside.
        quantile: Share of the inputs that may be excluded at either end.
        margin: Width to add at either end, relative to the width of the interval.
    """
    low, high = values.quantiles(quantile)
    width = domain[1] - domain[0]
    if high - low < 1e-3 * width:
        center = (low + high) / 2
        inside = domain[0] <= low and high <= domain[1]
        return domain if inside else (center - width / 2, center + width / 2)
    extra = margin * (high - low)
    return low - extra, high + extra


@torch.no_grad()
def init_grids(
    model: nn.Module, inputs: Iterable[Any], *, quantile: float = 1e-3, margin: float = 0.05
) -> dict[str, tuple[float, float]]:
    """Move the grids of a new network to its inputs, before training.

    Weights are kept, so the functions are stretched with the grid. A collective call.

    Args:
        model: Model that is called with each of the inputs.
        inputs: Batches of inputs.
        quantile: Quantile of `target_domain`.
        margin: Margin of `target_domain`.

    Returns:
        New domain by name of the site (see `grid_sites`).
    """
    _require_shares(quantile, margin)
    sites = [site for site in grid_sites(model) if site.movable]
    ranges = measure_inputs(model, inputs, sites)
    domains = {}
    for site in sites:
        if ranges[site.name].num_values:
            site.grid.move(*target_domain(ranges[site.name], site.grid.domain, quantile, margin))
            domains[site.name] = site.grid.domain
    return domains


def _require_shares(quantile: float, margin: float) -> None:
    for key, value, limit in (("quantile", quantile, 0.5), ("margin", margin, math.inf)):
        if not 0 <= value < limit:
            raise ValueError(f"{key}={value} must be at least 0 and below {limit}")


@dataclass(frozen=True)
class GridMove:
    """Result of `move_grids` for one site."""

    site: str
    old: tuple[float, float]
    new: tuple[float, float]
    fraction: float
    """Fraction of the way to the target domain; 0 for an unchanged grid."""
    change: float
    """Relative change of the functions, root mean square over inputs, edges and taps; maximum over layers."""
    weights: Mapping[str, Tensor]
    """Map of the weights (C, K, K) by name of the layer."""


@torch.no_grad()
def move_grids(
    model: nn.Module,
    inputs: Iterable[Any],
    *,
    quantile: float = 1e-3,
    margin: float = 0.05,
    max_change: float | None = 0.008,
    ranges: Mapping[str, InputRange] | None = None,
) -> list[GridMove]:
    """Move the grids of a model to its inputs; parameters keep their shapes.

    One pass over the inputs (two without `ranges`) serves all layers: since every layer keeps its function,
    the inputs of later layers do not change. A collective call with the same result on all processes.

    Args:
        model: Model that is called with each of the inputs.
        inputs: Batches of inputs, read twice.
        quantile: Quantile of `target_domain`.
        margin: Margin of `target_domain`.
        max_change: Largest relative change of the functions of a layer. If the full move exceeds it, 1/2, 1/4
            ... 1/64 of the move is tried, then none. None is no limit. The estimate treats channels and taps
            as independent; 0.008 keeps outputs within 1 % if they are not.
        ranges: Result of `measure_inputs` for the same inputs, if available.

    Returns:
        Result for each movable site with finite inputs.
    """
    _require_shares(quantile, margin)
    inputs = list(inputs)
    sites = [site for site in grid_sites(model) if site.movable]
    ranges = measure_inputs(model, inputs, sites) if ranges is None else ranges
    sites = [site for site in sites if ranges[site.name].num_values]
    targets = {
        site.name: target_domain(ranges[site.name], site.grid.domain, quantile, margin) for site in sites
    }
    histograms = {
        site.name: fine_histogram(site.grid, targets[site.name], site.num_channels, site.device)
        for site in sites
    }
    observe(model, inputs, sites, histograms)
    return [_move(site, histograms[site.name], targets[site.name], max_change) for site in sites]


def _move(
    site: GridSite, histogram: InputHistogram, target: tuple[float, float], max_change: float | None
) -> GridMove:
    old = site.grid.domain
    found = GridMove(site.name, old, old, 0.0, 0.0, {})
    for fraction in _FRACTIONS:
        low, high = (
            (1 - fraction) * here + fraction * there for here, there in zip(old, target, strict=True)
        )
        fits = {name: fit_functions(layer, histogram, low, high) for name, layer in site.layers.items()}
        change = max(change for _, change in fits.values())
        if max_change is None or change <= max_change:
            maps = {name: weights for name, (weights, _) in fits.items()}
            found = GridMove(site.name, old, (low, high), fraction, change, maps)
            break
    found = _broadcast_move(site, found)
    if found.fraction:
        for name, layer in site.layers.items():
            layer.basis_weight.copy_(map_functions(layer.basis_weight, found.weights[name], layer.groups))
        site.grid.move(*found.new)
    return found


@structural_change("refine_grid")
def refine_grid(model: nn.Module, layer: str = "", *, factor: int = 2) -> Tensor:
    """Refine the grid of a layer and of all layers that share its basis, to K' = factor G + k functions.

    Functions are unchanged on the domain, up to rounding. `basis_weight` is a new parameter, so the optimizer
    must be updated (`kanvision.optim.replace_parameter`). In training call it through `change_structure`,
    which records it.

    Args:
        model: Model, or the layer itself.
        layer: Name of the layer in the model.
        factor: Number of new cells for each cell.

    Returns:
        Map of the weights, (K', K).

    Raises:
        ValueError: The module is not a KAN layer with a basis that can be refined.
    """
    return _change(model, layer, lambda basis: basis.refine(factor))


@structural_change("extend_grid")
def extend_grid(model: nn.Module, layer: str = "", *, left: int = 0, right: int = 0) -> Tensor:
    """Add functions at the ends of the grid of a layer and of all layers that share its basis.

    Functions are unchanged on the whole line. For result and errors see `refine_grid`.

    Args:
        model: Model, or the layer itself.
        layer: Name of the layer in the model.
        left: Number of functions to add at the lower end.
        right: Number of functions to add at the upper end.
    """
    return _change(model, layer, lambda basis: basis.extend(left, right))


@torch.no_grad()
def _change(model: nn.Module, name: str, change: Callable[[GridBasis], Tensor]) -> Tensor:
    layer = model.get_submodule(name)
    if not isinstance(layer, KANLayer) or not isinstance(layer.basis, GridBasis):
        raise ValueError(f"layer={name!r} is a {type(layer).__name__}, not a KAN layer over a grid")
    owners = [m for m in model.modules() if isinstance(m, KANLayer) and m.basis is layer.basis]
    for owner in owners:
        if type(owner).edge_weight is not KANLayer.edge_weight:
            raise ValueError(
                f"layer={name!r} has adapters, whose weights belong to the current grid; merge them first"
            )
        if not isinstance(owner.basis_act, nn.Identity):
            raise ValueError(
                f"layer={name!r} has a basis_act: its functions are no longer sums of finer ones"
            )
    matrix = change(layer.basis)
    for owner in owners:
        weight = map_functions(owner.basis_weight, matrix, owner.groups)
        owner.basis_weight = nn.Parameter(weight, owner.basis_weight.requires_grad)
    return matrix


def _broadcast_move(site: GridSite, move: GridMove) -> GridMove:
    """Return the decision of rank 0 on all processes, independent of rounding."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return move
    numbers = torch.tensor([*move.new, move.fraction, move.change], dtype=torch.float64).to(site.device)
    distributed.broadcast(numbers, 0)
    low, high, fraction, change = numbers.tolist()
    maps = {}
    if fraction:
        for name, layer in site.layers.items():
            size = layer.basis.num_basis
            own = move.weights.get(name, torch.zeros(site.num_channels, size, size, dtype=torch.float64))
            shared = own.to(site.device)
            distributed.broadcast(shared, 0)
            maps[name] = shared.cpu()
    return GridMove(move.site, move.old, (low, high), fraction, change, maps)
