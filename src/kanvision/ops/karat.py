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
from functools import lru_cache, partial
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from kanvision.expansion.arrangement import Arrangement
from kanvision.expansion.autocast import without_autocast
from kanvision.expansion.define import Definition, Scalar, Vocabulary
from kanvision.expansion.double_backward import plain_gradients
from kanvision.expansion.elementary import GELU, SILU
from kanvision.expansion.execute import compute_gradients, compute_values
from kanvision.expansion.ordinary import is_ordinary
from kanvision.spec.models import KArAtBaseAct

__all__ = [
    "BASE_ACTS",
    "Series",
    "differentiable_gradients",
    "fourier_attention",
    "fourier_attention_reference",
]

# Values of functions in a tile: on a CPU such that they stay in the cache.
_CPU_TILE = 2**19
_DEVICE_TILE = 2**28


BASE_ACTS: dict[KArAtBaseAct, Callable[[Tensor], Tensor] | None] = {
    "zero": None,
    "identity": lambda x: x,
    "silu": F.silu,
    "gelu": F.gelu,
}
"""Base activations by name."""

_TRACEABLE_ACTS: dict[KArAtBaseAct, Callable[[Vocabulary, Scalar], list[Scalar]]] = {
    "zero": lambda m, x: [],
    "identity": lambda m, x: [x],
    "silu": SILU,
    "gelu": GELU,
}


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
    small. Second derivatives, and calls that a transform, tracer or compiler observes, use
    `fourier_attention_reference` with its N x N matrices.

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
    given = [tensor for tensor in (q, k, v, coefficients, weight) if tensor is not None]
    if not is_ordinary(given):
        return fourier_attention_reference(q, k, v, coefficients, weight, series, scale)
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
            functions.append(act(s))
        parts = zip(functions, coefficients.to(wide).unbind(-1), strict=True)
        hidden = cast(Tensor, sum(f @ c.mT for f, c in parts))  # (B, h, M, r)
        if weight is not None and weight.shape[-1] > hidden.shape[-1]:
            hidden = torch.cat((hidden, torch.ones_like(hidden[..., :1])), -1)
        mixed = v.to(wide) if weight is None else weight.to(wide).mT @ v.to(wide)  # (B, h, r, d)
        return (hidden @ mixed).to(v.dtype)


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
        c = _by_function(coefficients, wide)  # (h, r, K N)
        rank = c.shape[1]
        memory: Tensor | None = None
        for head, rows in _tiles(q, k, series):
            q_tile, k_tile, v_tile = (_head_first(t, head, rows, wide) for t in (q, k, v))
            values = _expand(_logits(q_tile * scale, k_tile), series, memory)
            memory = values if memory is None else memory  # the first tile is the largest
            tile = hidden[head, rows]
            tile[..., :rank] = (values @ c[head].mT).view(*tile.shape[:3], rank)
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
        c = _by_function(coefficients, wide)  # (h, r, K N)
        dc = torch.zeros_like(c)
        dw = None if weight is None else weight.new_zeros(weight.shape, dtype=wide)
        memory: Tensor | None = None
        for head, rows in _tiles(q, k, series):
            q_tile, k_tile, v_tile, g = (_head_first(t, head, rows, wide) for t in (q, k, v, grad))
            du = hidden[head, rows].mT @ g  # (h, B, r, d)
            if weight is None or dw is None:
                dv_tile = du
            else:
                dv_tile = weight[head].to(wide).unsqueeze(1) @ du
                dw[head] += (v_tile @ du.mT).sum(1)
            dh = g @ _mixed(v_tile, weight, head).mT  # (h, B, M, r)
            dh = dh[..., : c.shape[1]].flatten(1, 2)  # (h, B M, r)
            q_tile = q_tile * scale
            s = _logits(q_tile, k_tile)
            values = _expand(s, series, memory)
            memory = values if memory is None else memory
            dc[head].baddbmm_(dh.mT, values)
            ds = _differentiate(s, torch.matmul(dh, c[head], out=values), series)
            ds = ds.view(*dv_tile.shape[:2], q.shape[2], k.shape[2])  # (h, B, M, N)
            for whole, tile in ((dq, (ds @ k_tile) * scale), (dk, ds.mT @ q_tile), (dv, dv_tile)):
                whole[rows, head] = tile.transpose(0, 1).to(whole.dtype)
    dc = torch.unflatten(dc, 2, (-1, k.shape[2])).mT.to(coefficients.dtype)
    return dq, dk, dv, dc, None if dw is None or weight is None else dw.to(weight.dtype)


def _arrange(s: Tensor, series: Series) -> Arrangement:
    keys = s.shape[-1]
    return Arrangement(s.numel() // keys, keys, series.num_functions, keys, True)


def _expand(s: Tensor, series: Series, memory: Tensor | None) -> Tensor:
    """Return the values of all functions of logits, (h, R, N) -> (h, R, K N), in the memory of a tile."""
    shape = (*s.shape[:2], series.num_functions * s.shape[2])
    values = s.new_empty(shape) if memory is None else memory[:, : s.shape[1]]
    compute_values(_define(series), s, (), _arrange(s, series), values)
    return values


def _differentiate(s: Tensor, grad: Tensor, series: Series) -> Tensor:
    """Return the gradient of logits (h, R, N) from that of the values (h, R, K N)."""
    out = torch.empty_like(s)
    compute_gradients(_define(series), s, (), _arrange(s, series), grad, (True,), out)
    return out


@lru_cache(maxsize=64)
def _define(series: Series) -> Definition:
    return Definition(_list_functions, settings=tuple(series))


def _list_functions(
    m: Vocabulary, x: Scalar, num_frequencies: int, constant: bool, base_act: KArAtBaseAct
) -> list[Scalar]:
    """Return the functions of a series: one sine and one cosine, and sums of angles."""
    cos, sin = [m.cos(x)], [m.sin(x)]
    for _ in range(1, num_frequencies):
        cos.append(cos[-1] * cos[0] - sin[-1] * sin[0])
        sin.append(sin[-1] * cos[0] + cos[-2] * sin[0])
    return [*cos, *sin, *[1.0] * constant, *_TRACEABLE_ACTS[base_act](m, x)]


def _mixed(v: Tensor, weight: Tensor | None, head: slice) -> Tensor:
    """Return U = W^T v of a tile, (h, B, N, d) -> (h, B, r, d)."""
    return v if weight is None else weight[head].to(v.dtype).mT.unsqueeze(1) @ v


def _logits(q: Tensor, k: Tensor) -> Tensor:
    """Map (h, B, M, d), (h, B, N, d) to (h, B M, N)."""
    return torch.matmul(q, k.mT).flatten(1, 2)


def _tiles(q: Tensor, k: Tensor, series: Series) -> Iterator[tuple[slice, slice]]:
    """Return heads and samples of each tile."""
    batch, heads, per_head = q.shape[0], q.shape[1], q.shape[2] * k.shape[2]
    limit = _CPU_TILE * torch.get_num_threads() if q.device.type == "cpu" else _DEVICE_TILE
    limit //= series.num_functions
    if batch * heads * per_head <= limit:
        yield slice(0, heads), slice(0, batch)
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
    """Return (h, r, N, K) as (h, r, K N), contiguous."""
    return coefficients.to(dtype).mT.flatten(2)


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
