"""Values of K functions, computed one at a time and written in place into the result."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["fill_slots"]


def fill_slots(x: Tensor, num_slots: int, dim: int, value: Callable[[int], Tensor]) -> Tensor:
    """Stack `value(0) ... value(num_slots - 1)`, each of the shape and dtype of `x`, along a new axis `dim`.

    Temporaries have the size of `x`, not of the result: stacking, which a compiler fuses, would copy all
    values again. Not differentiable; for the forward pass of autograd functions.
    """
    if torch.compiler.is_compiling():
        return torch.stack([value(j) for j in range(num_slots)], dim)
    out = x.new_empty([*x.shape[:dim], num_slots, *x.shape[dim:]])
    for j, slot in enumerate(out.unbind(dim)):
        slot.copy_(value(j))
    return out
