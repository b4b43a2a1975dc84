"""Convolution of expanded maps in one GPU kernel, for 2-D convolutions without groups.

Set KANVISION_FUSED_CONV=on to use it. It is off by default: it has not been measured on a GPU.

Shapes: B batch, C channels, O outputs, K functions; x (B, C, H, W), weights (O, C K, kh, kw).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeGuard

import torch
from torch import Tensor

from . import triton_kernels
from .arrangement import Placement, lay_out
from .contraction import Contraction, Convolution
from .define import Definition, is_per_channel
from .fused_conv_source import emit_forward, emit_points_backward, emit_weight_backward
from .trace import trace_gradients, trace_values
from .triton_kernels import load_module, on_device

__all__ = ["SWITCH", "convolve", "differentiate", "is_usable", "load_kernels"]

SWITCH = "KANVISION_FUSED_CONV"
"""Environment variable that switches the kernels on."""

# Positions, channels and outputs of a tile: one dot product of the tensor cores for each function.
_TILE = {"BM": 64, "BC": 32, "BO": 64}
# The backward kernels keep K tiles of sums in registers.
_BACKWARD_TILE = dict.fromkeys(_TILE, 32)
_SPLITS = 16


def is_usable(contraction: Contraction, definition: Definition, x: Tensor) -> TypeGuard[Convolution]:
    """Return True if the kernels are switched on and serve a definition, a convolution and points."""
    return (
        isinstance(contraction, Convolution)
        and len(contraction.stride) == 2
        and contraction.groups == 1
        and not contraction.channels_last
        and triton_kernels.is_usable(definition, x)
        and os.environ.get(SWITCH, "off") == "on"
    )


def convolve(
    definition: Definition,
    conv: Convolution,
    x: Tensor,
    weight: Tensor,
    inputs: Sequence[Tensor],
    bias: Tensor | None,
) -> Tensor:
    """Return the convolution of all maps, (B, O, OH, OW), in the dtype of the weights.

    Args:
        definition: The functions.
        conv: Geometry of the convolution.
        x: Points.
        weight: Weights.
        inputs: Inputs of the definition.
        bias: Summand of each output, (O,).
    """
    call = _Call(definition, conv, x, weight, inputs)
    y = weight.new_empty(len(x), call.num_outputs, *call.out_size)
    kernel = load_kernels(definition, call.placements, None)["forward"]
    grid = (_divide(call.num_results, _TILE["BM"]), _divide(call.num_outputs, _TILE["BO"]))
    call.run(kernel, grid, _TILE, call.num_results, call.x, call.packed, y)
    return y if bias is None else y.add_(bias.view(-1, 1, 1))


def differentiate(
    definition: Definition,
    conv: Convolution,
    x: Tensor,
    weight: Tensor,
    inputs: Sequence[Tensor],
    grad: Tensor,
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """Return the gradients of x, of the weights and of the inputs, None where not wanted.

    Args:
        definition: The functions.
        conv: Geometry of the convolution.
        x: Points.
        weight: Weights.
        inputs: Inputs of the definition.
        grad: Gradient of the result.
        wanted: True for x, the weights and each input, if the gradient is needed.
    """
    call = _Call(definition, conv, x, weight, inputs)
    grad = grad.to(weight.dtype).contiguous()
    to_weight = call.differentiate_weight(grad).to(weight.dtype) if wanted[1] else None
    of_inputs = (wanted[0], *wanted[2:])
    if not any(of_inputs):
        return [None, to_weight, *[None] * len(inputs)]
    num_points = x.shape[0] * x.shape[2] * x.shape[3]
    grid = (_divide(num_points, _BACKWARD_TILE["BM"]), _divide(x.shape[1], _BACKWARD_TILE["BC"]))
    needed = list(zip(inputs, definition.all_sizes, call.placements, of_inputs[1:], strict=True))
    sums = [
        x.new_empty((*grid, size) if place == "shared" else (grid[0], size, x.shape[1]), dtype=torch.float32)
        for _, size, place, need in needed
        if need
    ]
    to_x = torch.empty_like(call.x)
    kernel = load_kernels(definition, call.placements, of_inputs)["points_backward"]
    call.run(kernel, grid, _BACKWARD_TILE, num_points, call.x, call.packed, grad, to_x, *sums)
    parts = iter(sums)
    found: list[Tensor | None] = [to_x if wanted[0] else None, to_weight]
    for values, _, place, need in needed:
        if need:
            part = next(parts)
            total = part.sum((0, 1)) if place == "shared" else part.sum(0).t()
        found.append(total.reshape(values.shape).to(values.dtype) if need else None)
    return found


class _Call:
    """Arguments of the kernels for one convolution."""

    def __init__(
        self,
        definition: Definition,
        conv: Convolution,
        x: Tensor,
        weight: Tensor,
        inputs: Sequence[Tensor],
    ) -> None:
        self.definition, self.conv, self.x = definition, conv, x.contiguous()
        self.num_outputs, self.kernel_size = len(weight), weight.shape[2:]
        by_function = torch.unflatten(weight, 1, (x.shape[1], -1))  # (O, C, K, kh, kw)
        self.num_functions = by_function.shape[2]
        self.packed = by_function.permute(3, 4, 2, 1, 0).contiguous()  # (kh, kw, K, C, O)
        self.placements: tuple[Placement, ...] = tuple(
            "point" if is_per_channel(values) else "shared" for values in inputs
        )
        self.inputs = lay_out(inputs, self.placements)
        spans = zip(self.kernel_size, conv.dilation, strict=True)
        self.out_size = [
            (size + 2 * padding - dilation * (taps - 1) - 1) // stride + 1
            for size, padding, stride, (taps, dilation) in zip(
                x.shape[2:], conv.padding, conv.stride, spans, strict=True
            )
        ]

    @property
    def num_results(self) -> int:
        """Return the number of positions of the result."""
        return len(self.x) * self.out_size[0] * self.out_size[1]

    def run(
        self, kernel: Any, grid: tuple[int, ...], tile: dict[str, int], num_positions: int, *tensors: Tensor
    ) -> None:
        """Start a kernel for a number of positions."""
        taps = self.kernel_size[0] * self.kernel_size[1]
        geometry = (*self.conv.stride, *self.conv.padding, *self.conv.dilation, taps, self.kernel_size[1])
        sizes = (
            num_positions,
            self.x.shape[1],
            self.num_outputs,
            *self.x.shape[2:],
            *self.out_size,
            *geometry,
        )
        precision = "ieee" if self.packed.dtype == torch.float32 else "tf32"  # of products of float32 only
        with on_device(self.x):
            kernel[grid](*tensors, *self.inputs, *sizes, **tile, PRECISION=precision)

    def differentiate_weight(self, grad: Tensor) -> Tensor:
        """Return the gradient of the weights, (O, C K, kh, kw), in float32."""
        taps = self.kernel_size[0] * self.kernel_size[1]
        splits = min(_SPLITS, _divide(self.num_results, _BACKWARD_TILE["BM"]))
        channels = self.x.shape[1]
        sums = self.x.new_empty(
            splits, *self.kernel_size, self.num_functions, channels, self.num_outputs, dtype=torch.float32
        )
        grid = (
            taps * _divide(channels, _BACKWARD_TILE["BC"]),
            _divide(self.num_outputs, _BACKWARD_TILE["BO"]),
            splits,
        )
        kernel = load_kernels(self.definition, self.placements, None)["weight_backward"]
        self.run(kernel, grid, _BACKWARD_TILE, self.num_results, self.x, grad, sums)
        return sums.sum(0).permute(4, 3, 2, 0, 1).flatten(1, 2)


@lru_cache(maxsize=256)
def load_kernels(
    definition: Definition, placements: tuple[Placement, ...], wanted: tuple[bool, ...] | None
) -> dict[str, Any]:
    """Return the kernels of the result and the weights, or those of the wanted other gradients."""
    values, sizes = trace_values(definition), definition.all_sizes
    if wanted is None:
        return load_module(
            emit_forward(values, sizes, placements) + "\n\n" + emit_weight_backward(values, sizes, placements)
        )
    program = trace_gradients(definition, wanted)
    return load_module(emit_points_backward(program, sizes, placements, wanted, len(values.results)))


def _divide(number: int, size: int) -> int:
    """Return the number of tiles."""
    return -(-number // size)
