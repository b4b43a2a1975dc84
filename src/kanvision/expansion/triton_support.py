"""Support of Triton kernels on a device."""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec

from torch import Tensor

__all__ = ["get_triton_obstacle", "is_interpreted"]


@cache
def is_interpreted() -> bool:
    """Return True if Triton runs kernels in its interpreter, on a CPU; as Triton, read once in a process."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def get_triton_obstacle(x: Tensor, name: str) -> str:
    """Return the reason why Triton cannot run on the device of `x`, or an empty string."""
    if not _is_installed():
        return "triton is not installed"
    if not x.is_cuda and not is_interpreted():
        return f"the kernels run on CUDA devices, {name} on {x.device.type}"
    return ""


@cache
def _is_installed() -> bool:
    return find_spec("triton") is not None
