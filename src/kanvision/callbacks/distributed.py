"""What processes of a run tell each other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed

__all__ = ["AsyncAllReduce", "all_gather_object"]


def all_gather_object(state: Any) -> list[Any]:
    """The states of all processes, in the order of their ranks; a collective call."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [state]
    states: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(states, state)
    return states


class AsyncAllReduce:
    """Lets all processes learn what one of them wants, and all at the same step.

    Each calls `largest`, or each calls `total`, once a step. One process alone gets its own answer at once.
    Several get that of the step before: the question travels while the step runs, over sockets, so that
    nobody waits for it, and neither the device nor the exchange of gradients knows of it.
    """

    def __init__(self) -> None:
        self._group: Any = None
        self._asked: tuple[Tensor, Any] | None = None

    def largest(self, wish: int) -> int:
        """Largest wish of any process at the step before (one process: at this step); 0 is none.

        A collective call.
        """
        return self._ask(wish, distributed.ReduceOp.MAX)

    def total(self, count: int) -> int:
        """Sum of the counts of all processes at the step before (one process: at this step).

        A collective call.
        """
        return self._ask(count, distributed.ReduceOp.SUM)

    def _ask(self, wish: int, operation: Any) -> int:
        if not (distributed.is_available() and distributed.is_initialized()):
            return wish
        if self._group is None:
            # of its own: questions must not come between the collective calls of the backward pass
            self._group = distributed.new_group(backend="gloo")
        answer = 0
        if self._asked is not None:
            number, work = self._asked
            work.wait()
            answer = int(number)
        number = torch.tensor(wish)
        work = distributed.all_reduce(number, operation, group=self._group, async_op=True)
        self._asked = number, work
        return answer
