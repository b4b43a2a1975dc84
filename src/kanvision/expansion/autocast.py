"""Operations in full precision inside autocast."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

__all__ = ["without_autocast"]

_NOTHING = nullcontext()


def without_autocast(device_type: str) -> AbstractContextManager[None]:
    """Return a context in which operations keep the dtype of their arguments.

    Outside of autocast nothing is to be done. An exported program has none: torch compiles the program once
    more for each of these contexts, which took most of the time of an export, and its inputs are in full
    precision anyway.
    """
    if (
        torch.compiler.is_exporting()
        or not torch.amp.is_autocast_available(device_type)  # the meta device, for one
        or not torch.is_autocast_enabled(device_type)
    ):
        return _NOTHING
    return torch.autocast(device_type=device_type, enabled=False)
