"""Coefficients of a group rational that approximate a given activation.

Legend: a_i numerator, b_j >= 0 denominator, q(x) = 1 + sum_j b_j |x|^j, f the function to be met.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["RationalFit", "fit_rational"]

_DEGREES = (5, 4)
_NUM_POINTS = 401
_START = (
    0.3,
    1.0,
    0.3,
    1.0,
)  # square roots of b_j (limit / 2)^j; found to reach the best fit of each activation
_NUM_WEIGHTINGS, _NUM_STEPS, _NUM_TRIES = 60, 30, 12
_NEAR_ZERO = 0.1  # below this the error counts in absolute terms


class RationalFit(NamedTuple):
    """Rational function that approximates another function."""

    numerator: tuple[float, ...]
    """a_0 ... a_5."""
    denominator: tuple[float, ...]
    """b_1 ... b_4."""
    error: float
    """Largest |F(x) - f(x)| / (0.1 + |x|) on the interval."""


@torch.no_grad()
def fit_rational(function: Callable[[Tensor], Tensor], limit: float = 10.0) -> RationalFit:
    """Fit F(x) = P(x) / q(x), the form of `kanvision.ops.rational`, to an elementwise function.

    Minimizes the largest |F(x) - f(x)| / (0.1 + |x|) over points of [-limit, limit] that are dense at zero,
    where most inputs of an activation are. For fixed b the best a is the solution of a linear system, so
    Levenberg-Marquardt steps are over b = t^2 only; Lawson's reweighting turns least squares into a minimax
    fit. The result is deterministic and takes less than a second.

    Args:
        function: Elementwise function, called with float64 tensors.
        limit: End of the interval.

    Raises:
        ValueError: The function is not elementwise or not finite there, or `limit` is not positive.
    """
    if not limit > 0:
        raise ValueError(f"limit={limit} must be positive.")
    x = torch.cos(torch.linspace(0, torch.pi, _NUM_POINTS, dtype=torch.float64))
    x = limit * x * x.abs()
    y = _values(function, x)
    unit = limit / 2  # powers of x / unit condition the systems well
    powers = torch.stack([(x / unit) ** i for i in range(_DEGREES[0] + 1)], dim=1)
    moduli = torch.stack([(x / unit).abs() ** j for j in range(1, _DEGREES[1] + 1)], dim=1)
    importance = (_NEAR_ZERO + x.abs()).reciprocal()
    weight = importance.square() / importance.square().mean()
    roots = torch.tensor(_START, dtype=torch.float64)
    best: tuple[float, Tensor, Tensor] | None = None
    for _ in range(_NUM_WEIGHTINGS):
        roots = _least_squares(powers, moduli, y, weight, roots)
        a, values = _best_numerator(powers, moduli, y, weight, roots)
        error = (values - y).abs() * importance
        largest = error.max().item()
        if best is None or largest < best[0]:
            best = largest, a, roots
        weight = weight * (0.3 + error / max(largest, torch.finfo(error.dtype).tiny))
        weight = weight / weight.mean()
    assert best is not None
    error_of_best, a, roots = best
    numerator = tuple(a_i / unit**i for i, a_i in enumerate(a.tolist()))
    denominator = tuple(b_j / unit**j for j, b_j in enumerate(roots.square().tolist(), start=1))
    return RationalFit(numerator, denominator, error_of_best)


def _values(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return f(x) after a check that f is elementwise."""
    try:
        y, part = function(x.clone()), function(x[1::2].clone())
    except RuntimeError as error:
        raise ValueError(f"{function!r} does not take a vector of {x.dtype} values: {error}") from error
    if not y.isfinite().all():
        raise ValueError(f"{function!r} is not finite between {x.min().item():g} and {x.max().item():g}.")
    # not bitwise: the end of a vectorized loop rounds in its own way
    if y.shape != x.shape or part.shape != x[1::2].shape or not torch.allclose(y[1::2], part, rtol=1e-9):
        raise ValueError(f"{function!r} is not elementwise, so that no rational can be fitted to it.")
    return y.to(torch.float64)


def _best_numerator(
    powers: Tensor, moduli: Tensor, y: Tensor, weight: Tensor, roots: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the numerator of least weighted squared error for these b, and P / q with it."""
    q = 1 + moduli @ roots.square()
    w = weight.sqrt()
    system = powers * (w / q).unsqueeze(1)
    a = torch.linalg.lstsq(system, (y * w).unsqueeze(1), driver="gelsd").solution.squeeze(1)
    return a, powers @ a / q


def _least_squares(powers: Tensor, moduli: Tensor, y: Tensor, weight: Tensor, roots: Tensor) -> Tensor:
    """Return the square roots of the b of least weighted squared error, by Levenberg-Marquardt."""
    w, damping, num_a = weight.sqrt(), 1e-3, powers.shape[1]
    _, values = _best_numerator(powers, moduli, y, weight, roots)
    residual = (values - y) * w
    for _ in range(_NUM_STEPS):
        q = 1 + moduli @ roots.square()
        of_roots = -(values / q).unsqueeze(1) * moduli * 2 * roots
        jacobian = torch.cat([powers / q.unsqueeze(1), of_roots], dim=1) * w.unsqueeze(1)
        normal, gradient = jacobian.T @ jacobian, jacobian.T @ residual
        loss = residual @ residual
        for _ in range(_NUM_TRIES):
            damped = normal + damping * torch.diag(normal.diagonal() + 1e-12)
            trial = roots - torch.linalg.solve(damped, gradient)[num_a:]
            _, values = _best_numerator(powers, moduli, y, weight, trial)
            residual_there = (values - y) * w
            if residual_there @ residual_there < loss:
                break
            damping *= 4
        else:
            return roots
        gained = 1 - (residual_there @ residual_there) / loss
        roots, residual, damping = trial, residual_there, max(damping / 5, 1e-12)
        if gained < 1e-6:
            break
    return roots
