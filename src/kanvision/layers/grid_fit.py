"""Functions of a KAN layer on another grid, by least squares over the distribution of its inputs.

Shapes: C channels, G groups, O outputs, K functions before and K' after, *k kernel, M points.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from kanvision.bases import Basis, GridBasis

from .base import KANLayer
from .input_statistics import InputHistogram

__all__ = ["fine_histogram", "fit_functions", "map_functions"]

# A fit also includes K samples spread evenly over the domain of the new grid, so that functions are unchanged
# where there are few or no data. The whole support of the functions has a small weight, which keeps weights
# small that affect neither, and a ridge, relative to the largest entry, determines the remaining ones.
_REACH, _RIDGE = 1e-4, 1e-13
_BINS_PER_CELL, _POINTS_PER_CELL = 32, 64


def fine_histogram(
    grid: GridBasis, target: tuple[float, float], num_channels: int, device: torch.device
) -> InputHistogram:
    """Return a histogram whose bins are small compared with the cells of both grids."""
    moved = copy.deepcopy(grid)
    moved.move(*target)
    edges = []
    for placement in (grid, moved):
        low, high = placement.support
        width = placement.step / _BINS_PER_CELL
        # one more bin at each end for values outside
        edges.append(torch.arange(-1, math.ceil((high - low) / width) + 2, dtype=torch.float64) * width + low)
    return InputHistogram(torch.unique(torch.cat(edges)), num_channels, device)


def fit_functions(
    layer: KANLayer, histogram: InputHistogram, low: float, high: float
) -> tuple[Tensor, float]:
    """Return the map of the weights (C, K, K) to another domain, and the relative change of the functions."""
    old = copy.deepcopy(layer.basis).cpu()
    new = copy.deepcopy(old)
    assert isinstance(new, GridBasis)
    new.move(low, high)
    counts = histogram.counts.cpu().double()
    total = counts.sum(1, keepdim=True)
    inside, reach = _even(low, high, new.step), _even(*new.support, new.step)
    x = torch.cat([histogram.centers, inside, reach])  # (M,)
    before, after = (_values(layer, basis, x) for basis in (old, new))  # (M, K)

    def measure(data: Tensor, domain: Tensor | float, support: float) -> Tensor:
        """Return weights of the points (C, M) that have these sums."""
        parts = [counts * data / total.clamp_min(1)]
        for part, points in ((domain, inside), (support, reach)):
            parts.append((torch.as_tensor(part) / len(points)).expand(len(counts), len(points)))
        return torch.cat(parts, 1)

    known = total / (total + old.num_basis)
    smooth = measure(known, 1 - known, 0.0)
    fitted = smooth + measure(torch.zeros(()), 0.0, _REACH)
    lhs = _products(fitted, after, after)
    ridge = _RIDGE * lhs.diagonal(dim1=1, dim2=2).amax(1).clamp_min(torch.finfo(lhs.dtype).tiny)
    lhs = lhs + ridge.view(-1, 1, 1) * torch.eye(lhs.shape[-1], dtype=lhs.dtype)
    weights = torch.cholesky_solve(_products(fitted, after, before), torch.linalg.cholesky(lhs))  # (C, K, K)
    changes = [
        _relative_change(layer, share, weights, before, after)
        for share in (smooth, measure(torch.ones(()), 0.0, 0.0))
    ]
    return weights, max(changes)


def _even(low: float, high: float, step: float) -> Tensor:
    """Return the midpoints of equal parts of an interval, many for each cell."""
    count = math.ceil(_POINTS_PER_CELL * (high - low) / step)
    return low + (high - low) * (torch.arange(count, dtype=torch.float64) + 0.5) / count


def _relative_change(layer: KANLayer, share: Tensor, weights: Tensor, before: Tensor, after: Tensor) -> float:
    """Return the root mean square of (M w) . phi_new - w . phi_old, relative to that of w . phi_old.

    Args:
        layer: The layer, with the old weights.
        share: Weights of the points, (C, M).
        weights: Map of the weights, (C, K, K).
        before: phi_old at the points, (M, K).
        after: phi_new at the points, (M, K).
    """
    own, cross = _products(share, before, before), weights.mT @ _products(share, after, before)
    error = weights.mT @ _products(share, after, after) @ weights - cross - cross.mT + own
    means = share @ before  # (C, K)
    shifts = (weights.mT @ (share @ after).unsqueeze(2)).squeeze(2) - means
    changed, total = _power(layer, error, shifts), _power(layer, own, means)
    if total <= 0:
        return 0.0 if changed <= 0 else math.inf
    return math.sqrt(max(0.0, changed) / total)


def _power(layer: KANLayer, products: Tensor, means: Tensor) -> float:
    """Return the mean square of the outputs that the weights of a layer give for functions psi, summed.

    Channels and taps count as independent.

    Args:
        layer: KAN layer.
        products: E[psi psi^T], (C, K, K).
        means: E[psi], (C, K).
    """
    weight = layer.edge_weight().detach().cpu().double()
    edges = by_channel(weight, means.shape[1], layer.groups)  # (C, K, N)
    mean = (means.unsqueeze(1) @ edges).squeeze(1)  # (C, N)
    variance = (edges * (products @ edges)).sum() - mean.square().sum()
    outputs = weight.shape[0] // layer.groups
    summed = mean.view(layer.groups, -1, outputs, math.prod(weight.shape[2:])).sum((1, 3))  # (G, O/G)
    return float(variance + summed.square().sum())


def _values(layer: KANLayer, basis: Basis, x: Tensor) -> Tensor:
    """Return the functions that the weights of a layer multiply, (M,) -> (M, K)."""
    values: Tensor = basis(x.unsqueeze(-1)).squeeze(-2)
    if isinstance(layer.basis_act, nn.Identity):
        return values
    weight = layer.basis_weight  # the activation may have parameters, of this type and on this device
    acted: Tensor = layer.basis_act(values.to(weight.device, weight.dtype))
    return acted.cpu().double()


def _products(share: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Return the means of left_i right_j over bins, (C, M), (M, I), (M, J) -> (C, I, J)."""
    outer = (left.unsqueeze(2) * right.unsqueeze(1)).flatten(1)  # (M, I J)
    return (share @ outer).view(len(share), left.shape[1], right.shape[1])


def by_channel(weight: Tensor, num_basis: int, groups: int) -> Tensor:
    """Reshape (O, C/G K, *k) to (C, K, N), where N is O/G outputs times the taps."""
    out, maps = weight.shape[:2]
    shape = (groups, out // groups, maps // num_basis, num_basis, -1)
    return weight.reshape(shape).permute(0, 2, 3, 1, 4).reshape(groups * shape[2], num_basis, -1)


def map_functions(weight: Tensor, matrix: Tensor, groups: int) -> Tensor:
    """Map the weights of the K functions of every channel, output and tap.

    Args:
        weight: Basis weights of a layer, (O, C/G K, *k), or the optimizer state of them.
        matrix: Map (K', K), or (C, K', K) with one map for each channel.
        groups: Number of groups, G.

    Returns:
        Weights (O, C/G K', *k) of the type and device of `weight`, computed in float64.
    """
    functions, num_basis = matrix.shape[-2:]
    out, _, *kernel = weight.shape
    edges = by_channel(weight.cpu().double(), num_basis, groups)  # not every accelerator has float64
    maps = matrix.cpu().double() @ edges  # (C, K', N)
    split = maps.view(groups, -1, functions, out // groups, math.prod(kernel))
    return split.permute(0, 3, 1, 2, 4).reshape(out, -1, *kernel).to(weight)
