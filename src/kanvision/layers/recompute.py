"""Parts of a network whose forward pass is computed again in the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from kanvision.expansion.ordinary import is_ordinary

from .norm import FrozenStatistics, has_shared_statistics

__all__ = ["recompute"]


def recompute(
    function: Callable[..., Tensor], *inputs: Tensor, part: nn.Module | None = None, is_random: bool = False
) -> Tensor:
    """Apply a function; if gradients are needed, keep only its inputs for the backward pass.

    A compiler chooses the tensors to keep, and transforms have no rule for recomputation: they get the
    function itself. So does a batch norm with the statistics of all processes, which must run once.

    Args:
        function: Function of the inputs.
        *inputs: Tensors to keep.
        part: Module inside the function; its batch norms must not count a batch twice.
        is_random: The function draws random numbers, which are the same in both passes.
    """
    is_once = not torch.is_grad_enabled() or not is_ordinary(list(inputs))
    if is_once or (part is not None and has_shared_statistics(part)):
        return function(*inputs)
    options: dict[str, Any] = {}
    if part is not None:
        options["context_fn"] = lambda: (nullcontext(), FrozenStatistics(part))
    y: Tensor = checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=is_random, **options)
    return y
