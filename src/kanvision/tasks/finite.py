"""The error of a run whose numbers are none."""

from __future__ import annotations

__all__ = ["NonFiniteError"]


class NonFiniteError(RuntimeError):
    """A loss, a gradient or the output of a network is not finite."""
