"""Group rational in GPU kernels, for polynomials of degrees up to 5 and 4 (KAT's).

Inputs and outputs are float16, bfloat16 or float32 with float32 arithmetic, or float64; any strides are made
contiguous. No atomics: every program stores the sums over its positions, and a second pass adds these in a
fixed order, so that gradients are reproducible bit by bit on one device.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kanvision.expansion.triton_support import get_triton_obstacle

from .rational_closed import compute_limits

__all__ = ["fused_rational", "fused_rational_gradients", "get_fusion_obstacle"]

NUMERATOR, DENOMINATOR = 6, 4  # numbers of coefficients in the kernels
# Elements of a tile, 32 and 16 for each of the 128 threads of a program: with more of them registers spill
# (ptxas of CUDA 13 for sm_90). Tiles whose channels lie apart in memory have half.
_VALUES_TILE, _GRADIENTS_TILE = 4096, 2048
_PROGRAMS_PER_PROCESSOR = 4
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def get_fusion_obstacle(x: Tensor, numerator: Tensor, denominator: Tensor) -> str:
    """Return the reason why the kernels cannot be used, or an empty string."""
    if numerator.shape[1] > NUMERATOR or denominator.shape[1] > DENOMINATOR:
        return f"the kernels have degrees up to {NUMERATOR - 1} and {DENOMINATOR}"
    if x.dtype not in _DTYPES:
        return f"the kernels have no {x.dtype}"
    return get_triton_obstacle(x, "x is")


def fused_rational(x: Tensor, numerator: Tensor, denominator: Tensor, dim: int, form: str) -> Tensor:
    """Return F(x), as `kanvision.ops.rational.rational` does; `get_fusion_obstacle` must be empty."""
    out = torch.empty_like(x)
    if x.numel() == 0:
        return out
    call = _Call.of(x, numerator, denominator, dim, form, _VALUES_TILE)
    y = out if out.is_contiguous() else torch.empty_like(call.x)
    grid = (call.tiles, -(-call.packets // call.options["CP"]))
    with _device_context(x):
        _kernels()[0][grid](call.x, y, *call.coefficients, *call.sizes, **call.options)
    return out if y is out else out.copy_(y)


def fused_rational_gradients(
    grad: Tensor, x: Tensor, numerator: Tensor, denominator: Tensor, dim: int, form: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, a and b; those of a and b have the dtype of the coefficients."""
    dx = torch.empty_like(x)
    if x.numel() == 0:
        return dx, torch.zeros_like(numerator), torch.zeros_like(denominator)
    call = _Call.of(x, numerator, denominator, dim, form, _GRADIENTS_TILE)
    columns = -(-call.packets // call.options["CP"])
    programs = min(call.tiles, max(1, _num_processors(x) * _PROGRAMS_PER_PROCESSOR // columns))
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    parts = x.new_empty(programs, NUMERATOR + DENOMINATOR, call.packets, dtype=wide)
    out = dx if dx.is_contiguous() else torch.empty_like(call.x)
    with _device_context(x):
        _kernels()[1][programs, columns](
            grad.contiguous(),
            call.x,
            out,
            *call.coefficients,
            parts,
            *call.sizes,
            call.tiles,
            **call.options,
            LARGEST=torch.finfo(wide).max,
        )
    if out is not dx:
        dx.copy_(out)
    sums = parts.sum(0).view(NUMERATOR + DENOMINATOR, call.groups, -1).sum(-1).t()  # (G, 10)
    da = _fold(sums[:, : numerator.shape[1]], numerator)
    db = _fold(sums[:, NUMERATOR : NUMERATOR + denominator.shape[1]], denominator)
    sign = torch.where(denominator < 0, 1.0, -1.0) if form == "kernel" else db.new_tensor(-1.0)
    return dx, da.to(numerator.dtype), (db * sign.to(db.dtype)).to(denominator.dtype)


class _Call(NamedTuple):
    """Arguments of both kernels for one input."""

    x: Tensor  # contiguous
    coefficients: tuple[Tensor, Tensor, Tensor]  # a (G, 6), b (G, 4), the limit of the stretch (1,)
    sizes: tuple[int, ...]  # positions, D, inner, blocks of inner, packets, packets of a group
    tiles: int
    groups: int
    options: dict[str, Any]

    @property
    def packets(self) -> int:
        return self.sizes[4]

    @classmethod
    def of(
        cls, x: Tensor, numerator: Tensor, denominator: Tensor, dim: int, form: str, elements: int
    ) -> _Call:
        wide = torch.float64 if x.dtype == torch.float64 else torch.float32
        groups = max(numerator.shape[0], denominator.shape[0])
        channels = x.shape[dim]
        inner = x.shape[dim + 1 :].numel()
        outer = x.shape[:dim].numel()
        limit = compute_limits(numerator.to(wide), denominator.to(wide)).view(1)
        b = denominator.abs() if form == "kernel" else denominator
        tables = (_padded(numerator, groups, NUMERATOR, wide), _padded(b, groups, DENOMINATOR, wide))
        size = channels // groups
        width = next(v for v in (8, 4, 2, 1) if size % v == 0 and v * x.element_size() <= 16)
        packets = channels // width
        if inner == 1:
            columns = _columns(packets, elements // width)
            rows = elements // (columns * width)
            blocks, tiles = 1, -(-outer // rows)
        else:  # positions lie side by side in memory: long tiles of them
            rows = min(64, max(16, 1 << (inner - 1).bit_length()))
            columns = _columns(packets, elements // 2 // (rows * width))
            blocks = -(-inner // rows)
            tiles = outer * blocks
        options = {"LAST": inner == 1, "K": form == "kernel", "R": rows, "CP": columns, "V": width}
        options |= {"F": _kernels()[2][wide]}
        sizes = (outer, channels, inner, blocks, packets, size // width)
        return cls(x.contiguous(), (*tables, limit), sizes, tiles, groups, options)


def _columns(packets: int, most: int) -> int:
    """Return the packets of a tile: the power of two that divides all of them, unless it is small."""
    dividing = packets & -packets
    wanted = dividing if dividing >= 8 else 1 << (packets - 1).bit_length()
    return max(1, min(wanted, most, 128))


def _padded(coefficients: Tensor, groups: int, width: int, dtype: torch.dtype) -> Tensor:
    out = coefficients.new_zeros(groups, width, dtype=dtype)
    out[:, : coefficients.shape[1]] = coefficients
    return out


def _fold(sums: Tensor, like: Tensor) -> Tensor:
    return sums.sum(0, keepdim=True) if like.shape[0] == 1 else sums


def _num_processors(x: Tensor) -> int:
    return torch.cuda.get_device_properties(x.device).multi_processor_count if x.is_cuda else 1


def _device_context(x: Tensor) -> AbstractContextManager[Any]:
    """Return a context on the device of a tensor; kernels start on the current device."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


@cache
def _kernels() -> tuple[Any, Any, dict[torch.dtype, Any]]:
    from .rational_triton_kernels import build

    return build()
