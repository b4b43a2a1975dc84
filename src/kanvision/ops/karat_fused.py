"""Fourier attention of KArAt in fused GPU kernels; see `kanvision.ops.karat` for formulas and legend.

A program has one tile of queries of one head and loops over the keys (or one tile of keys and loops over the
queries, for the gradients of keys and coefficients); it writes nothing of the size of the logits. Logits,
angles and sums are float32, the factors of the matrix products have the dtype of the queries. Keys beyond the
end have coefficients of 0, because the functions of a logit of 0 are not 0 (cos(0) = 1). Sums over samples
have a fixed order, so that results are reproducible bit by bit.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from kanvision.expansion.autocast import without_autocast
from kanvision.expansion.triton_support import get_triton_obstacle

from .karat import Series, differentiable_gradients

__all__ = ["fused_fourier_attention", "get_fusion_obstacle"]

MAX_RANK = 64
_QUERIES, _KEYS = 64, 32  # of a tile
_SPLITS = 16  # groups of samples with separate sums of coefficients


def get_fusion_obstacle(q: Tensor, series: Series, rank: int | None) -> str:
    """Return the reason why the kernels cannot be used, or an empty string."""
    if series.base_act != "zero":
        return f"the kernels have no base activation, base_act={series.base_act!r}"
    if rank is None or rank > MAX_RANK:
        return f"the kernels keep one row of units in registers, which ends at rank={MAX_RANK}; rank={rank}"
    if q.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return f"the kernels compute in float32, the queries are {q.dtype}"
    if q.is_cuda:
        device: Any = torch.cuda.get_device_properties(q.device)
        limit = device.shared_memory_per_block_optin
        needed = bound_shared_bytes(q, series, rank)
        if needed > limit:
            return f"the kernels take up to {needed:,} bytes of shared memory, the device has {limit:,}"
    return get_triton_obstacle(q, "the queries are")


def bound_shared_bytes(q: Tensor, series: Series, rank: int) -> int:
    """Return an upper bound of the shared memory of the kernels; docs/kernels.md has what they take."""
    padded, frequencies = _pad(rank), series.num_frequencies
    wide = -(-_pad(q.shape[-1]) // 64)
    if q.element_size() == 4:
        return 49152 * wide + padded * (512 * frequencies + 256)
    return 16384 * wide + padded * 384 * (frequencies + 1)


def _pad(size: int) -> int:
    """Return the power of two from 16 on that holds a size."""
    return max(16, 1 << (size - 1).bit_length())


def fused_fourier_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    coefficients: Tensor,
    weight: Tensor | None,
    series: Series,
    scale: float,
) -> Tensor:
    """Apply `kanvision.ops.karat.fourier_attention` in kernels; `get_fusion_obstacle` must be empty."""
    assert weight is not None  # a rank was given
    return cast(Tensor, _Fused.apply(q, k, v, coefficients, weight, series, scale)[0])


class _Fused(torch.autograd.Function):
    """Autograd function of H and out, of which only out is differentiable."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        coefficients: Tensor,
        weight: Tensor,
        series: Series,
        scale: float,
    ) -> tuple[Tensor, Tensor]:
        with without_autocast(q.device.type):
            launch = _Launch.of(q, k, coefficients, series, scale)
            hidden = launch.hidden(extra=weight.shape[-1] - coefficients.shape[1])  # (B, h, M, r)
            batch, heads, queries, channels = q.shape
            out = v.new_empty(batch, queries, heads, channels).transpose(1, 2)
            out.copy_(hidden.to(v.dtype) @ (weight.to(v.dtype).mT @ v))
        ctx.save_for_backward(q, k, v, coefficients, weight, hidden)
        ctx.series, ctx.scale = series, scale
        ctx.mark_non_differentiable(hidden)
        return out, hidden

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph=True
            return differentiable_gradients(ctx, grads[0])
        q, k, v, coefficients, weight, hidden = ctx.saved_tensors
        with without_autocast(q.device.type):
            grad, w = grads[0].to(v.dtype), weight.to(v.dtype)
            du = hidden.to(v.dtype).mT @ grad  # (B, h, r, d)
            dv = w @ du
            dw = (v @ du.mT).sum(0, dtype=torch.float32).to(weight.dtype)
            dh = (grad @ (w.mT @ v).mT)[..., : coefficients.shape[1]].contiguous()  # (B, h, M, r)
            launch = _Launch.of(q, k, coefficients, ctx.series, ctx.scale)
            dq, dk, dc = launch.gradients(dh)
        return dq, dk, dv, dc.to(coefficients.dtype), dw, None, None


class _Launch(NamedTuple):
    """Arguments shared by all kernels."""

    q: Tensor
    k: Tensor
    table: Tensor  # (2 G, h, N, R), R is r filled up with zeros to a power of two
    constant: Tensor | None  # (h, r): the sums of the coefficients of 1
    series: Series
    scale: float
    rank: int

    @classmethod
    def of(cls, q: Tensor, k: Tensor, coefficients: Tensor, series: Series, scale: float) -> _Launch:
        q, k = (t if t.stride(-1) == 1 else t.contiguous() for t in (q, k))
        rank, num_waves = coefficients.shape[1], 2 * series.num_frequencies
        padded = _pad(rank)
        table = coefficients[..., :num_waves].permute(3, 0, 2, 1)  # (2 G, h, N, r)
        table = torch.nn.functional.pad(table, (0, padded - rank)).to(q.dtype).contiguous()
        constant = coefficients[..., num_waves].sum(2).float() if series.constant else None
        return cls(q, k, table, constant, series, scale, rank)

    def hidden(self, extra: int) -> Tensor:
        """Return H (B, h, M, r + extra) in float32; the units beyond r are 1."""
        batch, heads, queries, _ = self.q.shape
        shape = (batch, heads, queries, self.rank + extra)
        result = torch.ones(shape, device=self.q.device, dtype=torch.float32)
        grid = (-(-queries // _QUERIES), batch * heads)
        _kernels().hidden[grid](self.q, self.k, self.table, result, result.shape[-1], *self._sizes())
        if self.constant is not None:
            result[..., : self.rank] += self.constant.unsqueeze(1)
        return result

    def gradients(self, dh: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of q, k and the coefficients (h, r, N, K) from the gradient of H."""
        batch, heads, queries, _ = self.q.shape
        keys, frequencies = self.k.shape[2], self.series.num_frequencies
        dq, dk = (t.new_empty(t.transpose(1, 2).shape).transpose(1, 2) for t in (self.q, self.k))
        splits = min(_SPLITS, batch)
        parts = torch.zeros((splits, *self.table.shape), device=self.q.device, dtype=torch.float32)
        key_tiles = -(-keys // _KEYS)
        given = (self.q, self.k, self.table, dh)
        kernels, sizes = _kernels(), self._sizes()
        kernels.queries[-(-queries // _QUERIES), batch * heads](*given, dq, *dq.stride()[:3], *sizes)
        kernels.keys[key_tiles, batch * heads](*given, dk, *dk.stride()[:3], *sizes)
        kernels.coefficients[key_tiles, heads * splits, frequencies](*given, parts, batch, splits, *sizes)
        dc = parts.sum(0)[..., : self.rank].permute(1, 3, 2, 0)  # (h, r, N, 2 G)
        if self.constant is not None:
            ones = dh.float().sum((0, 2))[:, :, None, None].expand(*dc.shape[:3], 1)
            dc = torch.cat((dc, ones), -1)
        return dq, dk, dc

    def _sizes(self) -> tuple[Any, ...]:
        channels = self.q.shape[3]
        return (
            *self.q.stride()[:3],
            *self.k.stride()[:3],
            self.q.shape[1],
            self.q.shape[2],
            self.k.shape[2],
            self.rank,
            self.scale,
            channels,
            _pad(channels),
            self.table.shape[-1],
            self.series.num_frequencies,
            _QUERIES,
            _KEYS,
        )


class _Kernels(NamedTuple):
    hidden: Any
    queries: Any
    keys: Any
    coefficients: Any


@cache
def _kernels() -> _Kernels:
    from .karat_triton_kernels import build

    return _Kernels(*build())
