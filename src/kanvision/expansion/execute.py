"""Values and gradients of a definition at points in memory: by a generated loop, or by the plain formula.

Shapes: R rows of L points, C channels, K functions.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from . import triton_kernels
from .arrangement import Arrangement, Placement, find_placements, lay_out
from .build import KernelBuildError, get_obstacle, load_library
from .c import emit_gradients, emit_values
from .define import Definition, evaluate
from .elementary import SILU
from .trace import trace_gradients, trace_values

__all__ = ["compute_gradients", "compute_values", "find_failure", "find_kernel_obstacle"]

# Fewer points than this take one thread; waking others costs more.
_PARALLEL_FROM = 32768
# Pieces of the rows for threads and partial sums. A fixed number makes sums equal for any number of threads.
_PIECES = 16


def compute_values(
    definition: Definition, x: Tensor, inputs: Sequence[Tensor], order: Arrangement, out: Tensor
) -> None:
    """Write the values at contiguous points x into a contiguous tensor."""
    if triton_kernels.is_usable(definition, x):
        triton_kernels.compute_values(definition, x, inputs, order, out)
        return
    placements = find_placements(inputs, order)
    run = _find_loop(definition, x, placements, None)
    if run is not None:
        kept = lay_out(inputs, placements)
        run(x.data_ptr(), out.data_ptr(), _point(kept), *_measure(order))
        return
    _view_values(out, order).copy_(_evaluate(definition, x, inputs, order))


def compute_gradients(
    definition: Definition,
    x: Tensor,
    inputs: Sequence[Tensor],
    order: Arrangement,
    grads: Tensor,
    wanted: tuple[bool, ...],
    out: Tensor | None,
) -> list[Tensor | None]:
    """Write the gradient of x into `out`, and return those of the inputs, None where not wanted.

    Args:
        definition: The functions.
        x: Contiguous points.
        inputs: Inputs of the definition.
        order: Arrangement of points and values.
        grads: Gradients of the values, contiguous, arranged as those.
        wanted: True for x, and for each input, if its gradient is needed.
        out: Contiguous tensor for the gradient of x, if that is wanted.
    """
    if triton_kernels.is_usable(definition, x):
        return triton_kernels.compute_gradients(definition, x, inputs, order, grads, wanted, out)
    placements = find_placements(inputs, order)
    run = _find_loop(definition, x, placements, wanted)
    if run is None:
        to_x, *others = _differentiate(definition, x, inputs, order, grads, wanted)
        if out is not None and to_x is not None:
            out.copy_(to_x)
        return others
    kept = lay_out(inputs, placements)
    total = sum(values.numel() for values, need in zip(inputs, wanted[1:], strict=True) if need)
    measures = _measure(order)
    sums = torch.zeros(_count_pieces(order), total, dtype=torch.float64) if total else None
    run(
        x.data_ptr(),
        grads.data_ptr(),
        None if out is None else out.data_ptr(),
        None if sums is None else sums.data_ptr(),
        total,
        _point(kept),
        *measures,
    )
    return _split_sums(sums, inputs, placements, wanted)


def _split_sums(
    sums: Tensor | None, inputs: Sequence[Tensor], placements: Sequence[Placement], wanted: Sequence[bool]
) -> list[Tensor | None]:
    """Return the gradients of the wanted inputs from sums of pieces of the rows."""
    found: list[Tensor | None] = [None] * len(inputs)
    if sums is None:
        return found
    total, start = sums.sum(0), 0
    for index, (values, place) in enumerate(zip(inputs, placements, strict=True)):
        if wanted[1 + index]:
            part = total[start : start + values.numel()]
            start += values.numel()
            if place == "point":
                part = part.view(-1, len(values)).t()
            found[index] = part.reshape(values.shape).to(values.dtype)
    return found


def find_kernel_obstacle() -> str:
    """Return why functions run by their plain formulas on this machine, or an empty string."""
    return find_failure(SILU)


def find_failure(definition: Definition) -> str:
    """Return why a definition has no generated loops, or an empty string."""
    obstacle = get_obstacle()
    if obstacle:
        return obstacle
    if not definition.has_trace:
        return "it cannot be traced"
    return _build(definition, ("shared",) * len(definition.all_sizes), None)[1]


def _find_loop(
    definition: Definition,
    x: Tensor,
    placements: tuple[Placement, ...],
    wanted: tuple[bool, ...] | None,
) -> Callable[..., None] | None:
    """Return the generated loop for the values, or for the wanted gradients; None for the plain formula."""
    if x.device.type != "cpu" or x.dtype != torch.float32 or not definition.has_trace or get_obstacle():
        return None
    return _build(definition, placements, wanted)[0]


@lru_cache(maxsize=1024)
def _build(
    definition: Definition, placements: tuple[Placement, ...], wanted: tuple[bool, ...] | None
) -> tuple[Callable[..., None] | None, str]:
    """Return a loop, or why it could not be built. Loops live here, never on modules, which are copied."""
    sizes = definition.all_sizes
    values = trace_values(definition)
    if wanted is None:
        source = emit_values(values, sizes, placements)
        pointers = 3
    else:
        program = trace_gradients(definition, wanted)
        source = emit_gradients(program, sizes, placements, wanted, len(values.results))
        pointers = 4
    try:
        run = load_library(source).run
    except KernelBuildError as error:
        return None, str(error)
    address, count = ctypes.c_void_p, ctypes.c_int64
    run.restype = None
    first = [address] * 2 if wanted is None else [address] * pointers + [count]
    run.argtypes = [*first, address, *[count] * 5]
    return run, ""


def _point(kept: Sequence[Tensor]) -> ctypes.Array[ctypes.c_void_p] | None:
    """Return pointers to inputs, which must live as long."""
    return (ctypes.c_void_p * len(kept))(*[values.data_ptr() for values in kept]) if kept else None


def _measure(order: Arrangement) -> tuple[int, ...]:
    """Return the numbers that a loop takes."""
    return order.rows, order.length, order.channels, _count_pieces(order), _count_threads(order)


def _count_pieces(order: Arrangement) -> int:
    return min(order.rows, _PIECES) if order.rows * order.length >= _PARALLEL_FROM else 1


_in_child = False


def _note_fork() -> None:
    global _in_child
    _in_child = True


os.register_at_fork(after_in_child=_note_fork)


def _count_threads(order: Arrangement) -> int:
    """Return the number of threads: one in the child of a fork, where OpenMP can hang."""
    if _in_child or order.rows * order.length < _PARALLEL_FROM:
        return 1
    return torch.get_num_threads()


def _view_points(x: Tensor, order: Arrangement) -> Tensor:
    """Return the points as (R, C) or (B, C, L)."""
    return x.view(*((-1,) if order.channels_inside else (-1, order.channels)), order.length)


def _view_values(values: Tensor, order: Arrangement) -> Tensor:
    """Return the values as (R, K, C) or (B, C, K, L)."""
    rows = (-1,) if order.channels_inside else (-1, order.channels)
    return values.view(*rows, order.functions, order.length)


def _evaluate(definition: Definition, x: Tensor, inputs: Sequence[Tensor], order: Arrangement) -> Tensor:
    """Return the values by the plain formula in the shape of `_view_values`."""
    return evaluate(definition, _view_points(x, order), inputs, 1 if order.channels_inside else 2, 1)


def _differentiate(
    definition: Definition,
    x: Tensor,
    inputs: Sequence[Tensor],
    order: Arrangement,
    grads: Tensor,
    wanted: tuple[bool, ...],
) -> list[Tensor | None]:
    """Return the gradients by autograd over the plain formula."""
    tensors = [tensor.detach() for tensor in (x, *inputs)]
    leaves = [tensor.requires_grad_() for tensor, need in zip(tensors, wanted, strict=True) if need]
    with torch.enable_grad():
        values = _evaluate(definition, tensors[0], tensors[1:], order)
    if not values.requires_grad:  # constant functions
        return [torch.zeros_like(t) if need else None for t, need in zip(tensors, wanted, strict=True)]
    found = iter(
        torch.autograd.grad(
            values, leaves, _view_values(grads, order), allow_unused=True, materialize_grads=True
        )
    )
    return [next(found) if need else None for need in wanted]
