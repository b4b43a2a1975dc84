"""Values and gradients of a definition on a GPU, by generated Triton kernels.

Points are float16, bfloat16 or float32; arithmetic is float32. There are no atomics: programs store sums,
which are added in a fixed order, so gradients are reproducible bit by bit on one device.

Shapes: R rows of L points, C channels, K functions.
"""

from __future__ import annotations

import hashlib
import linecache
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from .arrangement import Arrangement, Placement, find_placements, lay_out
from .build import is_switched_off
from .define import Definition
from .trace import trace_gradients, trace_values
from .triton_source import LIBRARY, emit_gradients, emit_values
from .triton_support import get_triton_obstacle, is_interpreted

__all__ = [
    "compute_gradients",
    "compute_values",
    "is_usable",
    "load_kernels",
    "load_module",
    "on_device",
]

# Points of a tile: 8 for each of the 128 threads of a program, two loads of 16 bytes in float32.
_TILE = 1024
# Sums of each point from which on registers do not hold those of a whole tile.
_MANY_SUMS = 12
# Programs for each multiprocessor of a kernel that sums over rows.
_PROGRAMS_PER_PROCESSOR = 8
_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def is_usable(definition: Definition, x: Tensor) -> bool:
    """Return True if the kernels serve a definition and points."""
    return (
        (x.is_cuda or is_interpreted())
        and x.dtype in _DTYPES
        and definition.has_trace
        and not is_switched_off()
        and not get_triton_obstacle(x, "x is")
    )


def compute_values(
    definition: Definition, x: Tensor, inputs: Sequence[Tensor], order: Arrangement, out: Tensor
) -> None:
    """Write the values at contiguous points x into a contiguous tensor."""
    placements = find_placements(inputs, order)
    kernel = load_kernels(definition, placements, None)["values"]
    launch = _Launch(x, order, is_summed=False)
    launch.run(kernel, x, out, *lay_out(inputs, placements))


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

    The arguments are those of `kanvision.expansion.execute.compute_gradients`.
    """
    placements = find_placements(inputs, order)
    kernel = load_kernels(definition, placements, wanted)["gradients"]
    sizes_of = [size for size, need in zip(definition.all_sizes, wanted[1:], strict=True) if need]
    needed = [place for place, need in zip(placements, wanted[1:], strict=True) if need]
    sums_at_points = sum(size for size, place in zip(sizes_of, needed, strict=True) if place == "point")
    launch = _Launch(x, order, is_summed=any(place != "row" for place in needed), num_kept=sums_at_points)
    programs, blocks = launch.grid
    shapes = {
        "shared": (programs * blocks, 1),
        "row": (blocks, order.rows),
        "point": (programs, order.length),
    }
    sums = [
        x.new_empty(shapes[place][0], shapes[place][1] * size, dtype=torch.float32)
        for place, size, need in zip(placements, definition.all_sizes, wanted[1:], strict=True)
        if need
    ]
    launch.run(kernel, x, grads, x if out is None else out, *sums, *lay_out(inputs, placements))
    parts = iter(sums)
    found: list[Tensor | None] = []
    for values, place, size, need in zip(inputs, placements, definition.all_sizes, wanted[1:], strict=True):
        if not need:
            found.append(None)
            continue
        total = next(parts).sum(0)
        if place == "row":
            total = total.view(-1, order.channels, size).sum(0)
        elif place == "point":
            total = total.view(size, order.channels).t()
        found.append(total.reshape(values.shape).to(values.dtype))
    return found


@lru_cache(maxsize=1024)
def load_kernels(
    definition: Definition, placements: tuple[Placement, ...], wanted: tuple[bool, ...] | None
) -> dict[str, Any]:
    """Return the module of a kernel: `values`, or `gradients` if it is stated which ones are wanted."""
    values = trace_values(definition)
    if wanted is None:
        code = emit_values(values, definition.all_sizes, placements)
    else:
        program = trace_gradients(definition, wanted)
        code = emit_gradients(program, definition.all_sizes, placements, wanted, len(values.results))
    return load_module(code)


def load_module(code: str) -> dict[str, Any]:
    """Return the module with generated kernels, by name."""
    source = LIBRARY + "\n\n" + code
    name = f"<kanvision kernel {hashlib.sha256(source.encode()).hexdigest()[:16]}>"
    # Triton reads the source of a function by inspect, which finds it there
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    module: dict[str, Any] = {"__name__": name}
    exec(compile(source, name, "exec"), module)
    return module


def on_device(x: Tensor) -> AbstractContextManager[Any]:
    """Return a context on the device of a tensor; kernels start on the current device."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


class _Launch:
    """Grid of a kernel and the numbers that it takes.

    Args:
        x: Points.
        order: Arrangement of points and values.
        is_summed: True if programs hold sums over rows, so that there should be few of them.
        num_kept: Number of sums of each point of a row.
    """

    def __init__(self, x: Tensor, order: Arrangement, is_summed: bool, num_kept: int = 0) -> None:
        tile = _TILE if num_kept < _MANY_SUMS else _TILE // 4
        block = min(tile, 1 << (order.length - 1).bit_length())
        rows = tile // block
        tiles = -(-order.rows // rows)
        blocks = -(-order.length // block)
        limit = tiles
        if is_summed and x.is_cuda:
            processors = torch.cuda.get_device_properties(x.device).multi_processor_count
            limit = max(1, processors * _PROGRAMS_PER_PROCESSOR // blocks)
        elif is_summed:
            limit = 2  # in the interpreter: several programs, each with several tiles
        self.x = x
        self.grid = (min(tiles, limit), blocks)
        self.sizes = (order.rows, order.length, order.channels, tiles)
        self.options = {"ROWS": rows, "BLOCK": block}

    def run(self, kernel: Any, *tensors: Tensor) -> None:
        """Start the kernel on the device of x."""
        with on_device(self.x):
            kernel[self.grid](*tensors, *self.sizes, **self.options)
