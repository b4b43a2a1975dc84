"""Euclidean projection onto the probability simplex."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["project_simplex"]


def project_simplex(y: Tensor) -> Tensor:
    """Return the nearest point of {x >= 0, sum x = 1} to each vector along the last axis.

    With u the values of y in descending order, rho = max{i : i u_i > u_1 + ... + u_i - 1} and
    lambda = (u_1 + ... + u_rho - 1) / rho: x = max(y - lambda, 0). The gradient on the support S is
    g_S - mean(g_S). Condat 2016, "Fast projection onto the simplex and the l1 ball" (Math. Program. 158).

    Args:
        y: Floating-point vectors (..., N).

    Returns:
        Projections (..., N) in the dtype of y.
    """
    falling = y.sort(dim=-1, descending=True).values
    excess = falling.cumsum(-1) - 1
    position = torch.arange(1, y.shape[-1] + 1, device=y.device, dtype=y.dtype)
    # Rounding may violate even the first condition in a row of huge values; the support is never empty.
    rho = (position * falling > excess).sum(-1, keepdim=True).clamp(min=1)
    threshold = excess.gather(-1, rho - 1) / rho
    return (y - threshold).clamp(min=0)
