"""Support of Triton kernels on a device."""

from __future__ import annotations

import os
from importlib.util import find_spec

from torch import Tensor

__all__ = ["get_triton_obstacle"]


def get_triton_obstacle(x: Tensor, name: str) -> str:
    """Return the reason why Triton cannot run on the device of `x`, or an empty string."""
    if find_spec("triton") is None:
        return "triton is not installed"
    if not x.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        return f"the kernels run on CUDA devices, {name} on {x.device.type}"
    return ""
