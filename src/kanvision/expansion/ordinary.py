"""Calls that nothing observes, in which generated loops may take the place of operations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

__all__ = ["is_ordinary"]

_PLAIN_TYPES = (Tensor, torch.nn.Parameter)


def is_ordinary(tensors: Sequence[Tensor]) -> bool:
    """Return True if no transform, tracer or compiler observes the operations."""
    return (
        not torch.compiler.is_compiling()
        and not torch._C._is_tracing()
        and torch._C._functorch.peek_interpreter_stack() is None
        and _get_current_dispatch_mode() is None
        and forward_ad._current_level < 0
        and all([type(tensor) in _PLAIN_TYPES for tensor in tensors])
        and tensors[0].device.type != "meta"
        and tensors[0].numel() > 0
    )
