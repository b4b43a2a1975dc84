"""Eigenvalues of a symmetric matrix from products with vectors, such as the Hessian of a network.

P size of the matrix, m steps, V start vectors.
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
    """Result of the Lanczos method for one start vector, in ascending order of the values."""

    values: Floats
    """Approximate eigenvalues, (m,)."""
    weights: Floats
    """Shares of the spectrum of these values, weighted by the start vector, (m,); their sum is 1."""
    bounds: Floats
    """Largest distances of a true eigenvalue, (m,); not below the rounding of the number format."""


class Estimate(NamedTuple):
    """Mean over random vectors."""

    mean: float
    error: float
    """Standard error of the mean; NaN for a single vector."""


class Density(NamedTuple):
    """Density of eigenvalues."""

    positions: Floats
    """Positions on the axis of eigenvalues, (n,)."""
    density: Floats
    """Mean density over the start vectors, (n,); its integral is 1."""
    errors: Floats
    """Standard errors of these means, (n,); NaN for a single vector."""


def rademacher(size: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """Return a vector (P,) of random signs on the device and in the dtype of `like`; drawn on the CPU."""
    signs = torch.randint(0, 2, (size,), generator=generator)
    return signs.to(like.device, like.dtype).mul_(2).sub_(1)


def lanczos(product: Product, start: Tensor, steps: int) -> Ritz:
    """Run the Lanczos method with full reorthogonalization (Golub and Meurant 2010, chapters 4 and 6).

    With the plain recurrence, rounding repeats eigenvalues. Each new direction is therefore made orthogonal
    to all earlier ones, twice, which keeps m x P numbers in memory.

    Args:
        product: Function from a vector (P,) to its product with the matrix.
        start: Start vector, (P,), not zero. Eigenvalues whose eigenvectors are orthogonal to it are not
            found; multiple eigenvalues are found once.
        steps: Number of products, m; fewer are computed if the Krylov space is exhausted.

    Raises:
        ValueError: The number of steps is below 1, the start is zero, or a product is not finite.
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
            beside[-1] = 0.0  # the rest is rounding: the space is exhausted
            break
        if step + 1 < steps:
            basis[step + 1] = vector / beside[-1]
    inner = np.diag(diagonal) + np.diag(beside[:-1], 1) + np.diag(beside[:-1], -1)
    values, vectors = np.linalg.eigh(inner)
    return Ritz(values, vectors[0] ** 2, np.maximum(beside[-1] * np.abs(vectors[-1]), rounding * size))


def density(runs: Sequence[Ritz], width: float, number: int = 500) -> Density:
    """Estimate the density of the spectrum at evenly spaced positions by stochastic Lanczos quadrature.

    rho(t) = mean over V of sum_j weight_j N(t; value_j, width^2) (Ghorbani et al. 2019, arXiv 1901.10159).
    `width` is the standard deviation of the kernel, as a share of the distance between the outermost values.
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
    """Return the eigenvalues largest in absolute value, and the bound of the error of each.

    Each of them comes from the run with the smallest bound. Equal eigenvalues appear once.
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
    """Return the mean of independent values and its standard error."""
    array = np.array(values, dtype=np.float64)
    return Estimate(float(array.mean()), float(_standard_error(array)))


def _standard_error(values: Floats) -> Floats:
    """Return the standard error of the mean over the first axis; NaN for a single value."""
    if len(values) < 2:
        return np.full(values.shape[1:], np.nan)
    error: Floats = values.std(axis=0, ddof=1) / math.sqrt(len(values))
    return error
