"""Losses that layers add to the training loss: load balance of experts, penalties on activations.

A layer calls `add_auxiliary(loss)` in its forward pass, and the training loop collects the losses::

    with collect_auxiliary() as auxiliary:
        loss = criterion(model(images), target)
    loss = loss + sum(auxiliary)

Modules do not store losses, so no graph outlives its step and copies of a model are cheap. A forward pass
outside of a collector (evaluation, export, the second pass of activation checkpointing) adds nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

__all__ = ["add_auxiliary", "collect_auxiliary"]

_collectors: list[list[Tensor]] = []


def add_auxiliary(loss: Tensor) -> None:
    """Pass a scalar to the innermost `collect_auxiliary`; without one it is dropped.

    Raises:
        ValueError: The loss is not a scalar.
    """
    if loss.ndim:
        raise ValueError(f"an auxiliary loss is a scalar, got a tensor of shape {tuple(loss.shape)}")
    if _collectors:
        _collectors[-1].append(loss)


@contextmanager
def collect_auxiliary() -> Iterator[list[Tensor]]:
    """Collect the losses that layers add inside the block; the innermost of nested collectors gets them."""
    losses: list[Tensor] = []
    _collectors.append(losses)
    try:
        yield losses
    finally:
        _collectors.pop()
