"""Fourier attention in closed form: against numpy term by term, gradcheck, tiles, what it keeps."""

import math

import numpy as np
import pytest
import torch

from kanvision.ops import karat
from kanvision.ops.karat import Series, fourier_attention, fourier_attention_reference

SERIES = [Series(1), Series(3), Series(2, True), Series(2, False, "silu"), Series(1, True, "gelu")]
SCALE = 0.7


def arguments(series, rank=3, bias=False, queries=3, keys=4, dtype=torch.double, seed=0):
    torch.manual_seed(seed)
    q, k, v = (torch.randn(2, 2, n, 3, dtype=dtype) for n in (queries, keys, keys))
    units = keys if rank is None else rank
    coefficients = torch.randn(2, units, keys, series.num_functions, dtype=dtype)
    weight = None if rank is None else torch.randn(2, keys, rank + bias, dtype=dtype)
    return [t if t is None else t.requires_grad_() for t in (q, k, v, coefficients, weight)]


def attend(function, series, tensors):
    return function(*tensors, series, SCALE)


@pytest.fixture(params=["one tile", "many tiles"])
def tiles(request, monkeypatch):
    if request.param == "many tiles":
        monkeypatch.setattr(karat, "_CPU_TILE", 15)


def by_numpy(series, q, k, v, c, w):
    out = np.zeros_like(v[:, :, : q.shape[2]])
    for b, h, i in np.ndindex(q.shape[:3]):
        attention = np.zeros(v.shape[2])
        for p in range(c.shape[1]):
            unit = 0.0
            for j in range(k.shape[2]):
                x = SCALE * float(q[b, h, i] @ k[b, h, j])
                g = series.num_frequencies
                unit += sum(c[h, p, j, m - 1] * math.cos(m * x) for m in range(1, g + 1))
                unit += sum(c[h, p, j, g + m - 1] * math.sin(m * x) for m in range(1, g + 1))
                if series.constant:
                    unit += c[h, p, j, 2 * g]
                if series.base_act == "silu":
                    unit += c[h, p, j, -1] * x / (1 + math.exp(-x))
                if series.base_act == "gelu":
                    unit += c[h, p, j, -1] * x * 0.5 * (1 + math.erf(x / math.sqrt(2)))
            attention += unit * w[h, :, p]
        out[b, h, i] = attention @ v[b, h]
    return out


@pytest.mark.parametrize("series", SERIES, ids=str)
def test_is_the_formula(series, tiles):
    tensors = arguments(series)
    expected = by_numpy(series, *(t.detach().numpy() for t in tensors))
    for function in (fourier_attention, fourier_attention_reference):
        np.testing.assert_allclose(
            attend(function, series, tensors).detach(), expected, rtol=1e-9, atol=1e-11
        )


@pytest.mark.parametrize("rank", [3, None])
@pytest.mark.parametrize("series", SERIES, ids=str)
def test_closed_form_derivatives(series, rank, tiles):
    tensors = arguments(series, rank, bias=rank is not None and series.constant)
    given = [t for t in tensors if t is not None]

    def run(*args):
        return attend(fourier_attention, series, (*args, None)[:5])

    assert torch.autograd.gradcheck(run, given, fast_mode=True)
    g = torch.randn(2, 2, 3, 3, dtype=torch.double)
    closed = torch.autograd.grad(run(*given), given, g)
    plain = torch.autograd.grad(attend(fourier_attention_reference, series, tensors), given, g)
    for one, other in zip(closed, plain, strict=True):
        torch.testing.assert_close(one, other)


def test_derivatives_of_derivatives():
    tensors = arguments(Series(2), queries=2, keys=3)
    assert torch.autograd.gradgradcheck(
        lambda *args: fourier_attention(*args, Series(2), SCALE), tensors, fast_mode=True
    )


def test_derivatives_where_queries_keys_and_values_are_one_tensor():
    """Of both orders: what goes through one of them is not counted for the others too."""
    coefficients, weight = (t.detach() for t in arguments(Series(2), queries=4)[3:])
    x = torch.randn(2, 2, 4, 3, dtype=torch.double, requires_grad=True)
    results = []
    for function in (fourier_attention, fourier_attention_reference):
        out = function(x, x, x.tanh(), coefficients, weight, Series(2), SCALE)
        (first,) = torch.autograd.grad(out.sin().sum(), x, create_graph=True)
        results.append((first, *torch.autograd.grad(first.square().sum(), x)))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want)


def test_gradients_of_some_arguments_only():
    tensors = arguments(Series(1))
    q, k, v, c, w = (t.detach() for t in tensors)
    c.requires_grad_()
    out = fourier_attention(q, k, v, c, w, Series(1), SCALE)
    expected = torch.autograd.grad(attend(fourier_attention, Series(1), tensors).sum(), tensors[3])[0]
    torch.testing.assert_close(torch.autograd.grad(out.sum(), c)[0], expected)


def test_frequencies_by_sums_of_angles_are_those_of_the_library():
    s = torch.linspace(-30, 30, 40_001)
    series = Series(11)
    found = karat._expand(s.view(1, 1, -1), series, None).view(22, -1)
    slopes = karat._differentiate(s.view(1, 1, -1), torch.ones(1, 1, found.numel()), series).view(-1)
    expected = torch.zeros_like(s, dtype=torch.double)
    for m in range(1, 12):
        exact = m * s.double()
        assert (found[m - 1] - exact.cos()).abs().max() < 2e-6
        assert (found[10 + m] - exact.sin()).abs().max() < 2e-6
        expected += m * (exact.cos() - exact.sin())
    assert (slopes - expected).abs().max() < 3e-4


def test_keeps_nothing_of_the_size_of_the_logits():
    series = Series(3)
    tensors = arguments(series, rank=4, queries=50, keys=50, dtype=torch.float32)
    kept = {}

    def pack(t):
        kept[t.untyped_storage().data_ptr()] = t.numel()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = attend(fourier_attention, series, tensors)
    hidden = 2 * 2 * 50 * 4
    assert sum(kept.values()) == sum(t.numel() for t in tensors) + hidden
    assert out.transpose(1, 2).is_contiguous()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_logits_and_angles_are_float32_in_half_precision(dtype):
    series = Series(3)
    tensors = [t.detach() for t in arguments(series, dtype=torch.float32)]
    half = [t.to(dtype) for t in tensors[:3]] + tensors[3:]
    exact = attend(fourier_attention, series, [t.double() for t in half])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = attend(fourier_attention, series, half)
    assert out.dtype == dtype
    # nothing but the result is rounded
    torch.testing.assert_close(out, exact.to(dtype), rtol=2 * torch.finfo(dtype).eps, atol=1e-3)


def test_compiles_and_runs_on_meta():
    series = Series(2)
    tensors = arguments(series, dtype=torch.float32)
    torch._dynamo.reset()
    compiled = torch.compile(fourier_attention, backend="aot_eager", fullgraph=True)
    out = attend(compiled, series, tensors)
    torch.testing.assert_close(out, attend(fourier_attention, series, tensors))
    meta = attend(fourier_attention, series, [t.detach().to("meta") for t in tensors])
    assert meta.is_meta
    assert meta.shape == out.shape


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"coefficients": (2, 3, 4, 3)}, r"need coefficients of shape \(2, r, 4, 2\)"),
        ({"weight": (2, 4, 5)}, r"weight must have shape \(2, 4, 3\)"),
        ({"weight": None}, "one unit for each of the 4 keys, got 3"),
        ({"v": (2, 2, 3, 3)}, "q, k and v must be"),
    ],
)
def test_shapes_are_checked(change, words):
    tensors = dict(zip(("q", "k", "v", "coefficients", "weight"), arguments(Series(1)), strict=True))
    tensors |= {key: shape and torch.zeros(shape) for key, shape in change.items()}
    with pytest.raises(ValueError, match=words):
        fourier_attention(**tensors, series=Series(1), scale=1.0)
