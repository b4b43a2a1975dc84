"""Fourier attention of KArAt (Maity et al., arXiv 2503.10632) without any tensor of queries times keys.

With S = scale q k^T, functions f_1 ... f_K and coefficients c, for every head

    H_ip = sum_j sum_k c_pjk f_k(S_ij)        U = W^T v        out = H U

which is (H W^T) v, the formula of the paper, in an order that does not compute the matrix H W^T. The
functions are cos(x) ... cos(G x), sin(x) ... sin(G x), then optionally 1 and a base activation. With g =
dL/dH,

    dS_ij = sum_k f'_k(S_ij) (g c_k)_ij        dc_pjk = sum_i g_ip f_k(S_ij)
    dq = scale dS k        dk = scale dS^T q        dW = v dU^T        dU = H^T dout        dv = W dU

Legend: B batch, h heads, M queries, N keys, d channels of a head, r hidden units, G frequencies, K functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from kanvision.expansion.autocast import without_autocast
from kanvision.expansion.double_backward import plain_gradients
from kanvision.spec.models import KArAtBaseAct

__all__ = [
    "BASE_ACTS",
    "Series",
    "differentiable_gradients",
    "fourier_attention",
    "fourier_attention_reference",
]

# Logits of a tile: on a CPU such that its half dozen temporaries stay in the cache.
_CPU_TILE = 2**16
_DEVICE_TILE = 2**26


def _silu_slope(x: Tensor) -> Tensor:
    sigmoid = torch.sigmoid(x)
    slope: Tensor = sigmoid * (1 + x * (1 - sigmoid))
    return slope


def _gelu_slope(x: Tensor) -> Tensor:
    slope: Tensor = 0.5 * (1 + torch.erf(x * 2**-0.5)) + x * torch.exp(-0.5 * x * x) * (2 * torch.pi) ** -0.5
    return slope


BASE_ACTS: dict[KArAtBaseAct, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]] | None] = {
    "zero": None,
    "identity": (lambda x: x, torch.ones_like),
    "silu": (F.silu, _silu_slope),
    "gelu": (F.gelu, _gelu_slope),
}
"""Base activations and their derivatives by name."""


class Series(NamedTuple):
    """Functions f_1 ... f_K of a Fourier series.

    Attributes:
        num_frequencies: Number of frequencies, G.
        constant: True if 1 is one of the functions.
        base_act: Base activation, one of `BASE_ACTS`; "zero" is none.
    """

    num_frequencies: int
    constant: bool = False
    base_act: KArAtBaseAct = "zero"

    @property
    def num_functions(self) -> int:
        """Return the number of functions, K."""
        return 2 * self.num_frequencies + self.constant + (self.base_act != "zero")


def fourier_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    coefficients: Tensor,
    weight: Tensor | None,
    series: Series,
    scale: float,
) -> Tensor:
    """Apply attention with learned functions of the logits; saves H and the arguments for backward.

    Logits, functions and H are computed in float32 (or float64), also under autocast: rounding a logit to
    bfloat16 changes cos(3 x) by up to 0.09. Tiles keep the number of temporaries of the size of the logits
    small. Differentiable to any order; second derivatives use `fourier_attention_reference` with its N x N
    matrices.

    Args:
        q: Queries (B, h, M, d).
        k: Keys (B, h, N, d).
        v: Values (B, h, N, d).
        coefficients: Coefficients (h, r, N, K).
        weight: W, (h, N, r), or (h, N, r + 1) with a bias in the last column: the weight of a unit that is 1.
            None is the full rank r = N, where H is the attention matrix.
        series: Functions.
        scale: Factor of the logits.

    Returns:
        Outputs (B, h, M, d) in the dtype of v; with h and M transposed they are contiguous.

    Raises:
        ValueError: Shapes do not fit.
    """
    _check(q, k, v, coefficients, weight, series)
    if not torch.is_grad_enabled():
        return _forward(q, k, v, coefficients, weight, series, scale)[0]
    result = _FourierAttention.apply(q, k, v, coefficients, weight, series, scale)
    return cast(Tensor, result[0])


def fourier_attention_reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    coefficients: Tensor,
    weight: Tensor | None,
    series: Series,
    scale: float,
) -> Tensor:
    """Apply the attention of `fourier_attention` by the plain formula under autograd: the test oracle."""
    _check(q, k, v, coefficients, weight, series)
    with without_autocast(q.device.type):
        wide = _wide(q)
        s = scale * (q.to(wide) @ k.to(wide).mT)  # (B, h, M, N)
        functions = [(m * s).cos() for m in range(1, series.num_frequencies + 1)]
        functions += [(m * s).sin() for m in range(1, series.num_frequencies + 1)]
        functions += [torch.ones_like(s)] * series.constant
        if (act := BASE_ACTS[series.base_act]) is not None:
            functions.append(act[0](s))
        parts = zip(functions, coefficients.to(wide).unbind(-1), strict=True)
        attention = cast(Tensor, sum(f @ c.mT for f, c in parts))  # (B, h, M, r)
        if weight is not None:
            if weight.shape[-1] > attention.shape[-1]:
                attention = torch.cat((attention, torch.ones_like(attention[..., :1])), -1)
            attention = attention @ weight.to(wide).mT  # (B, h, M, N)
        return (attention @ v.to(wide)).to(v.dtype)


class _FourierAttention(torch.autograd.Function):
    """Autograd function of H and out, of which only out is differentiable."""

    @staticmethod
    def forward(*args: Any) -> tuple[Tensor, Tensor]:
        return _forward(*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        q, k, v, coefficients, weight, ctx.series, ctx.scale = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(q, k, v, coefficients, weight, output[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph=True
            return differentiable_gradients(ctx, grads[0])
        q, k, v, coefficients, weight, hidden = ctx.saved_tensors
        found = _backward(grads[0], q, k, v, coefficients, weight, hidden, ctx.series, ctx.scale)
        return (*found, None, None)


def differentiable_gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Return the gradients of all arguments by the plain formula, differentiable again.

    Args:
        ctx: Context of an autograd function with the arguments of `fourier_attention`, with saved tensors and
            H.
        grad: Gradient of the result.
    """
    formula = partial(fourier_attention_reference, series=ctx.series, scale=ctx.scale)
    found = plain_gradients(formula, ctx.saved_tensors[:5], ctx.needs_input_grad[:5], grad)
    return (*found, None, None)


def _forward(
    q: Tensor, k: Tensor, v: Tensor, coefficients: Tensor, weight: Tensor | None, series: Series, scale: float
) -> tuple[Tensor, Tensor]:
    """Return (out, H): (B, h, M, d) and (h, B, M, r)."""
    batch, heads, queries, channels = q.shape
    wide = _wide(q)
    hidden = q.new_empty(heads, batch, queries, _num_units(coefficients, weight), dtype=wide)
    out = v.new_empty(batch, queries, heads, channels).transpose(1, 2)  # (B, h, M, d)
    with without_autocast(q.device.type):
        c = _by_function(coefficients, wide)  # (K, h, r, N)
        rank = c.shape[2]
        for head, rows in _tiles(q, k):
            q_tile, k_tile, v_tile = (_head_first(t, head, rows, wide) for t in (q, k, v))
            s = _logits(q_tile, k_tile, scale)  # (h, B M, N)
            sums: Tensor | None = None
            for index, values, _, _ in _functions(s, series):
                c_index = c[index, head].mT  # (h, N, r)
                sums = values @ c_index if sums is None else torch.baddbmm(sums, values, c_index)
            assert sums is not None
            tile = hidden[head, rows]
            tile[..., :rank] = sums.view(*tile.shape[:3], rank)
            tile[..., rank:] = 1
            out[rows, head] = (tile @ _mixed(v_tile, weight, head)).transpose(0, 1).to(out.dtype)
    return out, hidden


def _backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    coefficients: Tensor,
    weight: Tensor | None,
    hidden: Tensor,
    series: Series,
    scale: float,
) -> tuple[Tensor | None, ...]:
    """Return the gradients of q, k, v, coefficients and weight."""
    wide = _wide(q)
    dq, dk, dv = (t.new_empty(t.transpose(1, 2).shape).transpose(1, 2) for t in (q, k, v))
    with without_autocast(q.device.type):
        c = _by_function(coefficients, wide)  # (K, h, r, N)
        dc = torch.zeros_like(c)
        dw = None if weight is None else weight.new_zeros(weight.shape, dtype=wide)
        for head, rows in _tiles(q, k):
            q_tile, k_tile, v_tile, g = (_head_first(t, head, rows, wide) for t in (q, k, v, grad))
            du = hidden[head, rows].mT @ g  # (h, B, r, d)
            if weight is None or dw is None:
                dv_tile = du
            else:
                dv_tile = weight[head].to(wide).unsqueeze(1) @ du
                dw[head] += (v_tile @ du.mT).sum(1)
            dh = g @ _mixed(v_tile, weight, head).mT  # (h, B, M, r)
            dh = dh[..., : c.shape[2]].flatten(1, 2)  # (h, B M, r)
            s = _logits(q_tile, k_tile, scale)
            ds = torch.zeros_like(s)
            for index, values, slopes, factor in _functions(s, series):
                dc[index, head] += dh.mT @ values
                if slopes is not None:
                    ds.addcmul_(slopes, dh @ c[index, head], value=factor * scale)
            ds = ds.view(*dv_tile.shape[:2], q.shape[2], k.shape[2])  # (h, B, M, N)
            for whole, tile in ((dq, ds @ k_tile), (dk, ds.mT @ q_tile), (dv, dv_tile)):
                whole[rows, head] = tile.transpose(0, 1).to(whole.dtype)
    dc = dc.movedim(0, -1).to(coefficients.dtype)
    return dq, dk, dv, dc, None if dw is None or weight is None else dw.to(weight.dtype)


def _functions(s: Tensor, series: Series) -> Iterator[tuple[int, Tensor, Tensor | None, float]]:
    """Yield index, values, derivative as a tensor (None: zero) and its factor of each function."""
    cos, sin = s.cos(), s.sin()
    cos_m, sin_m = cos, sin
    for m in range(1, series.num_frequencies + 1):
        if m > 1:  # sums of angles: one sine and one cosine for all frequencies
            cos_m, sin_m = (
                torch.addcmul(cos_m * cos, sin_m, sin, value=-1),
                torch.addcmul(sin_m * cos, cos_m, sin),
            )
        yield m - 1, cos_m, sin_m, -m
        yield series.num_frequencies + m - 1, sin_m, cos_m, m
    if series.constant:
        yield 2 * series.num_frequencies, torch.ones_like(s), None, 0
    if (act := BASE_ACTS[series.base_act]) is not None:
        yield series.num_functions - 1, act[0](s), act[1](s), 1


def _mixed(v: Tensor, weight: Tensor | None, head: slice) -> Tensor:
    """Return U = W^T v of a tile, (h, B, N, d) -> (h, B, r, d)."""
    return v if weight is None else weight[head].to(v.dtype).mT.unsqueeze(1) @ v


def _logits(q: Tensor, k: Tensor, scale: float) -> Tensor:
    """Map (h, B, M, d), (h, B, N, d) to (h, B M, N)."""
    return torch.matmul(q, k.mT).mul_(scale).flatten(1, 2)


def _tiles(q: Tensor, k: Tensor) -> Iterator[tuple[slice, slice]]:
    """Return heads and samples of each tile."""
    batch, heads, per_head = q.shape[0], q.shape[1], q.shape[2] * k.shape[2]
    everything = (slice(0, heads), slice(0, batch))
    if q.is_meta or torch.compiler.is_compiling():  # a loop would be written out
        yield everything
        return
    limit = _CPU_TILE * torch.get_num_threads() if q.device.type == "cpu" else _DEVICE_TILE
    if batch * heads * per_head <= limit:
        yield everything
        return
    # One head at a time, so that its matrix of coefficients multiplies the rows of many samples at once.
    step = max(1, limit // per_head)
    for head in range(heads):
        for first in range(0, batch, step):
            yield slice(head, head + 1), slice(first, min(first + step, batch))


def _head_first(t: Tensor, head: slice, rows: slice, dtype: torch.dtype) -> Tensor:
    """Return a tile of (B, h, ., d) as (h, B, ., d)."""
    return t[rows, head].transpose(0, 1).to(dtype)


def _by_function(coefficients: Tensor, dtype: torch.dtype) -> Tensor:
    """Return (h, r, N, K) as (K, h, r, N), contiguous."""
    return coefficients.to(dtype).movedim(-1, 0).contiguous()


def _num_units(coefficients: Tensor, weight: Tensor | None) -> int:
    return coefficients.shape[1] if weight is None else weight.shape[-1]


def _wide(t: Tensor) -> torch.dtype:
    return torch.promote_types(t.dtype, torch.float32)


def _check(
    q: Tensor, k: Tensor, v: Tensor, coefficients: Tensor, weight: Tensor | None, series: Series
) -> None:
    heads, keys = k.shape[1:3]
    rank = coefficients.shape[1]
    if coefficients.shape != (heads, rank, keys, series.num_functions):
        raise ValueError(
            f"{heads} heads, {keys} keys and {series} need coefficients of shape "
            f"({heads}, r, {keys}, {series.num_functions}), got {tuple(coefficients.shape)}."
        )
    if weight is None and rank != keys:
        raise ValueError(f"Without a weight there must be one unit for each of the {keys} keys, got {rank}.")
    if weight is not None and weight.shape not in ((heads, keys, rank), (heads, keys, rank + 1)):
        raise ValueError(
            f"weight must have shape ({heads}, {keys}, {rank}), or one more column for a bias, "
            f"got {tuple(weight.shape)}."
        )
    if not q.shape[:2] == k.shape[:2] == v.shape[:2] or q.shape[3] != k.shape[3] or v.shape != k.shape:
        raise ValueError(
            f"q, k and v must be (B, h, M, d), (B, h, N, d) and (B, h, N, d), got {tuple(q.shape)}, "
            f"{tuple(k.shape)} and {tuple(v.shape)}."
        )
