"""Eigenvalues of a symmetric matrix that is known by its products with vectors alone.

P size of the matrix, m steps, V start vectors. Only products are asked for, so that the matrix may be the
Hessian of a network, which nobody could store.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = [
    "Density",
    "Estimate",
    "Ritz",
    "density",
    "extreme_eigenvalues",
    "lanczos",
    "mean_and_error",
    "rademacher",
]

Product = Callable[[Tensor], Tensor]
Floats = NDArray[np.float64]

_TAIL = 5.0  # widths of the kernel beyond the outermost Ritz values


class Ritz(NamedTuple):
    """What Lanczos' method finds out from one start vector, by rising value."""

    values: Floats
    """(m,) approximate eigenvalues."""
    weights: Floats
    """(m,) shares of the spectrum that they stand for, as the start vector sees it; they sum to 1."""
    bounds: Floats
    """(m,) a true eigenvalue is at most this far away; not below the rounding of the number format."""


class Estimate(NamedTuple):
    """A mean over random vectors."""

    mean: float
    error: float
    """Standard error of the mean; nan from a single vector."""


class Density(NamedTuple):
    """How much of the spectrum lies where."""

    positions: Floats
    """(n,) values."""
    density: Floats
    """(n,) mean density over the start vectors; its integral is 1."""
    errors: Floats
    """(n,) standard errors of these means; nan from a single vector."""


def rademacher(size: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """A vector (P,) of random signs, of the device and number format of `like`; drawn on the CPU."""
    signs = torch.randint(0, 2, (size,), generator=generator)
    return signs.to(like.device, like.dtype).mul_(2).sub_(1)


def lanczos(product: Product, start: Tensor, steps: int) -> Ritz:
    """Run Lanczos' method with full reorthogonalisation (Golub and Meurant 2010, chapters 4 and 6).

    Rounding makes the plain recurrence find the same eigenvalue again and again, so that each new direction
    is made orthogonal to all earlier ones, twice. They are kept: m x P numbers.

    Args:
        product: The matrix times a vector (P,).
        start: (P,), not zero. A value that it has no part of is not found, nor is an eigenvalue found twice.
        steps: m, the number of products; fewer are made where the found space is closed.

    Raises:
        ValueError: If steps is below 1, the start is zero, or a product is not finite.
    """
    length = float(start.norm())
    if steps < 1 or not length > 0:
        raise ValueError(f"steps={steps} must be at least 1, and the norm of the start, {length}, positive")
    steps = min(steps, start.numel())
    basis = start.new_empty(steps, start.numel())
    basis[0] = start / length
    diagonal: list[float] = []
    beside: list[float] = []
    size, rounding = 0.0, torch.finfo(start.dtype).eps
    for step in range(steps):
        vector = product(basis[step])
        if not torch.isfinite(vector).all():
            raise ValueError(f"product {step + 1} of the matrix with a vector is not finite")
        diagonal.append(float(vector.double() @ basis[step].double()))
        known = basis[: step + 1]
        for _ in range(2):
            vector = vector - known.mT @ (known @ vector)  # (P,)
        beside.append(float(vector.norm()))
        size = max(size, abs(diagonal[-1]) + beside[-1])
        if beside[-1] <= 10 * rounding * math.sqrt(start.numel()) * size:
            beside[-1] = 0.0  # what is left is rounding: the space is closed
            break
        if step + 1 < steps:
            basis[step + 1] = vector / beside[-1]
    inner = np.diag(diagonal) + np.diag(beside[:-1], 1) + np.diag(beside[:-1], -1)
    values, vectors = np.linalg.eigh(inner)
    return Ritz(values, vectors[0] ** 2, np.maximum(beside[-1] * np.abs(vectors[-1]), rounding * size))


def density(runs: Sequence[Ritz], width: float, number: int = 500) -> Density:
    """Density of the spectrum by stochastic Lanczos quadrature (Ghorbani et al. 2019, arXiv 1901.10159).

    rho(t) = mean over V of sum_j weight_j N(t; value_j, width^2).

    Args:
        runs: One for each random start vector.
        width: Standard deviation of the kernel, as a share of the distance between the outermost values.
        number: Positions, evenly spaced.
    """
    values = np.concatenate([run.values for run in runs])
    span = float(np.ptp(values)) or max(abs(float(values[0])), 1.0)
    sigma = width * span
    positions = np.linspace(values.min() - _TAIL * sigma, values.max() + _TAIL * sigma, number)
    each = [
        (run.weights * np.exp(-0.5 * ((positions[:, None] - run.values) / sigma) ** 2)).sum(axis=1)
        / (sigma * math.sqrt(2 * math.pi))
        for run in runs
    ]
    curves = np.stack(each)  # (V, n)
    return Density(positions, curves.mean(axis=0), _standard_error(curves))


def extreme_eigenvalues(runs: Sequence[Ritz], number: int) -> tuple[Floats, Floats]:
    """The largest eigenvalues by size, signs kept, and how far a true one may be from each.

    Each rank takes the run that knows it best. Eigenvalues that are equal appear once.

    Args:
        runs: One for each start vector.
        number: How many are wanted.
    """
    number = min(number, *(len(run.values) for run in runs))
    found: list[tuple[float, float]] = []
    orders = [np.argsort(-np.abs(run.values)) for run in runs]
    for rank in range(number):
        ranked = [
            (run.bounds[order[rank]], run.values[order[rank]])
            for run, order in zip(runs, orders, strict=True)
        ]
        bound, value = min(ranked)
        found.append((float(value), float(bound)))
    values, bounds = np.array(found).reshape(-1, 2).T
    return values, bounds


def mean_and_error(values: Sequence[float]) -> Estimate:
    """Mean of independent values and its standard error."""
    array = np.array(values, dtype=np.float64)
    return Estimate(float(array.mean()), float(_standard_error(array)))


def _standard_error(values: Floats) -> Floats:
    """Over the first axis; nan of a single one, which tells nothing of its own error."""
    if len(values) < 2:
        return np.full(values.shape[1:], np.nan)
    error: Floats = values.std(axis=0, ddof=1) / math.sqrt(len(values))
    return error
