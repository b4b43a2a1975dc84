"""Loss over a plane through the weights of a network, and the path of the training in the same plane.

Li et al. 2018, "Visualizing the Loss Landscape of Neural Nets" (arXiv 1712.09913). P parameters, T snapshots.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kanvision.layers.norm import FrozenStatistics
from kanvision.spec.evaluation import DIRECTION_SCALINGS, DirectionScaling

__all__ = [
    "Plane",
    "Projection",
    "Weights",
    "at_weights",
    "batch_statistics",
    "get_weights",
    "path_plane",
    "random_plane",
    "share_in_plane",
    "surface",
]

Weights = Mapping[str, Tensor]
"""Parameters by name."""
Floats = NDArray[np.float64]


class Projection(NamedTuple):
    """Coordinates of weights relative to a plane."""

    x: float
    y: float
    length: float
    """Distance of the weights from the center; all parameters count."""
    rest: float
    """Distance of the weights from the plane: the part of `length` that a figure does not show."""


@dataclass(frozen=True)
class Plane:
    """Plane of the weights center + x first + y second; `first` and `second` are orthogonal."""

    center: Weights
    first: Weights
    second: Weights
    """Second direction; parameters that a direction lacks keep their values at the center."""

    def point(self, x: float, y: float) -> dict[str, Tensor]:
        """Return the weights at a point of the plane."""
        moved = {
            name: self.center[name] + x * first + y * self.second[name] for name, first in self.first.items()
        }
        return {**self.center, **moved}

    def project(self, weights: Weights) -> Projection:
        """Return the orthogonal projection of weights onto the plane."""
        shift = {name: weights[name] - center for name, center in self.center.items()}
        x, y = (_dot(shift, axis) / _dot(axis, axis) for axis in (self.first, self.second))
        rest = {
            name: part - x * self.first[name] - y * self.second[name] if name in self.first else part
            for name, part in shift.items()
        }
        return Projection(x, y, math.sqrt(_dot(shift, shift)), math.sqrt(_dot(rest, rest)))


def get_weights(model: nn.Module, names: Collection[str] | None = None) -> dict[str, Tensor]:
    """Return copies of all parameters of a network, or of those with these names; shared ones once."""
    return {
        name: parameter.detach().clone()
        for name, parameter in model.named_parameters()
        if names is None or name in names
    }


def random_plane(center: Weights, scaling: DirectionScaling, seed: int, *, vectors: bool = False) -> Plane:
    """Return a plane along two random directions: normal numbers, scaled like the weights.

    Args:
        center: Weights at the center.
        scaling: Part of a direction that is scaled to the norm of the same part of the weights: all of it
            ("network"), each tensor, or each slice of the first axis of a tensor ("filter": the weights of
            one output). A step of 1 is then as long as the weights.
        seed: Seed of the directions, which are drawn on the CPU.
        vectors: Also move tensors with at most one axis longer than 1 (biases, norms, tokens).
    """
    generator = torch.Generator().manual_seed(seed)
    first, second = (
        {
            name: torch.randn(center[name].shape, generator=generator).to(center[name])
            for name in _moving(center, vectors)
        }
        for _ in range(2)
    )
    return _plane(center, first, second, scaling)


def path_plane(
    center: Weights, snapshots: Sequence[Weights], scaling: DirectionScaling, *, vectors: bool = False
) -> Plane:
    """Return the plane through the center that is nearest to the snapshots of a training run.

    With M the T x P matrix of snapshots minus the center, the directions are its first two right singular
    vectors: principal components of the weights relative to the center, which lies in the plane. `scaling`
    "network" keeps this plane and sets its unit; "tensor" and "filter" change the directions as in
    `random_plane`, so that the plane holds less of the path. The second direction is then made orthogonal to
    the first. The first snapshot has x < 0.

    Args:
        center: Weights at the center.
        snapshots: Weights during the training, at least two that differ from the center.
        scaling: See `random_plane`.
        vectors: See `random_plane`.

    Raises:
        ValueError: The snapshots do not span a plane.
    """
    names = _moving(center, vectors)
    gram = np.zeros((len(snapshots), len(snapshots)))
    for name in names:
        shifts = torch.stack([(snapshot[name] - center[name]).flatten().double() for snapshot in snapshots])
        gram += (shifts @ shifts.mT).cpu().numpy()  # (T, T)
    values, vectors_of_gram = np.linalg.eigh(gram)
    if len(snapshots) < 2 or values[-2] <= 1e-12 * values[-1]:
        raise ValueError(
            f"{len(snapshots)} snapshots lie on one line with the weights in the middle, or on them; "
            "a path needs snapshots in two directions"
        )
    axes = []
    for index in (-1, -2):
        mix = vectors_of_gram[:, index]
        mix = -mix if mix[0] > 0 else mix  # the first snapshot's coordinate is sqrt(value) mix[0]
        axis = {name: torch.zeros_like(center[name]) for name in names}
        for factor, snapshot in zip(mix, snapshots, strict=True):
            for name, total in axis.items():
                total.add_(snapshot[name] - center[name], alpha=float(factor))
        axes.append(axis)
    return _plane(center, axes[0], axes[1], scaling)


def share_in_plane(projections: Sequence[Projection]) -> float:
    """Return the share of the squared distances from the center that lies in the plane."""
    whole = sum(projection.length**2 for projection in projections)
    return 1 - sum(projection.rest**2 for projection in projections) / whole if whole else math.nan


def surface(
    loss: Callable[[], float],
    model: nn.Module,
    plane: Plane,
    xs: Sequence[float],
    ys: Sequence[float],
    tick: Callable[[], Any] = lambda: None,
) -> Floats:
    """Return the loss at each point of a grid, (len(ys), len(xs)); the weights of the network are restored.

    `loss` returns the loss at the current weights; `tick` is called after each point.
    """
    values = np.full((len(ys), len(xs)), np.nan)
    for row, y in enumerate(ys):
        for column, x in enumerate(xs):
            with at_weights(model, plane.point(x, y)):
                values[row, column] = loss()
            tick()
    return values


@contextmanager
def at_weights(model: nn.Module, weights: Weights) -> Iterator[None]:
    """Set weights of a network inside the context; buffers and all other parameters do not change."""
    parameters = {name: parameter for name, parameter in model.named_parameters() if name in weights}
    kept = {name: parameter.detach().clone() for name, parameter in parameters.items()}

    def put(values: Weights) -> None:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(values[name])

    try:
        put(weights)
        yield
    finally:
        put(kept)


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Let batch norms use the statistics of each batch, without updating their running statistics.

    Running statistics belong to the weights of the training. At other points of a plane they are wrong, and
    would dominate the loss.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    modes = [norm.training for norm in norms]
    try:
        with FrozenStatistics(model):
            for norm in norms:
                norm.train()
            yield
    finally:
        for norm, mode in zip(norms, modes, strict=True):
            norm.train(mode)


def _moving(center: Weights, vectors: bool) -> list[str]:
    return [name for name, tensor in center.items() if vectors or sum(size > 1 for size in tensor.shape) > 1]


def _plane(
    center: Weights, first: dict[str, Tensor], second: dict[str, Tensor], scaling: DirectionScaling
) -> Plane:
    if scaling not in DIRECTION_SCALINGS:
        raise ValueError(f"scaling={scaling!r} is not known; legal values: {', '.join(DIRECTION_SCALINGS)}")
    first, second = (_scaled(axis, center, scaling) for axis in (first, second))
    overlap = _dot(second, first) / _dot(first, first)
    second = {name: part - overlap * first[name] for name, part in second.items()}
    return Plane(center, first, second)


def _scaled(direction: Weights, center: Weights, scaling: DirectionScaling) -> dict[str, Tensor]:
    if scaling == "network":
        own = {name: center[name] for name in direction}
        factor = math.sqrt(_dot(own, own) / _dot(direction, direction))
        return {name: factor * part for name, part in direction.items()}
    found = {}
    for name, part in direction.items():
        axes = tuple(range(int(scaling == "filter" and part.ndim > 1), part.ndim))
        lengths = [torch.linalg.vector_norm(t, dim=axes, keepdim=True) for t in (center[name], part)]
        # parts of a direction that are zero stay zero: these weights have not moved
        found[name] = part * lengths[0] / lengths[1].clamp(min=torch.finfo(part.dtype).tiny)
    return found


def _dot(a: Weights, b: Weights) -> float:
    return sum(float((part.double() * b[name].double()).sum()) for name, part in a.items() if name in b)
