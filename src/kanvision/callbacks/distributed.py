"""Exchange of values between the ranks of a run."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed

__all__ = ["AsyncAllReduce", "all_gather_object"]


def all_gather_object(value: Any) -> list[Any]:
    """Return the values of all ranks, in the order of the ranks; a collective call."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


class AsyncAllReduce:
    """Reduction of an integer over all ranks, once a step, that no rank waits for.

    Every rank calls `max`, or every rank calls `sum`, once a step. With several ranks the result is that of
    the step before, since the values travel while the step runs: over sockets, so that neither the device nor
    the reduction of gradients is involved. A single process gets its own value at once.
    """

    def __init__(self) -> None:
        self._group: Any = None
        self._pending: tuple[Tensor, Any] | None = None

    def max(self, value: int) -> int:
        """Return the largest value of any rank at the step before (one process: at this step).

        A collective call; the result of the first one is 0.
        """
        return self._reduce(value, distributed.ReduceOp.MAX)

    def sum(self, value: int) -> int:
        """Return the sum over all ranks at the step before (one process: at this step).

        A collective call; the result of the first one is 0.
        """
        return self._reduce(value, distributed.ReduceOp.SUM)

    def _reduce(self, value: int, operation: Any) -> int:
        if not (distributed.is_available() and distributed.is_initialized()):
            return value
        if self._group is None:
            # a group of its own, so that no call comes between the collective calls of the backward pass
            self._group = distributed.new_group(backend="gloo")
        result = 0
        if self._pending is not None:
            tensor, work = self._pending
            work.wait()
            result = int(tensor)
        tensor = torch.tensor(value)
        work = distributed.all_reduce(tensor, operation, group=self._group, async_op=True)
        self._pending = tensor, work
        return result
