"""Tests of the kernels of KArAt; run by `tests/expansion/test_triton_kernels.py`."""

import pytest
import torch

from kanvision.layers import KArAtOperator
from kanvision.ops.karat import Series, fourier_attention
from kanvision.ops.karat_fused import fused_fourier_attention

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ROUNDING = {torch.float32: 5e-6, torch.float16: 4e-3, torch.bfloat16: 3e-2}
HALF = torch.float16 if DEVICE == "cpu" else torch.bfloat16  # the interpreter has no bfloat16


def case(series, rank, bias, tokens, dtype, batch=2, heads=1, channels=12):
    """q, k and v are views of one map, as in a block."""
    torch.manual_seed(0)
    qkv = torch.randn(batch, tokens, 3, heads, channels).to(DEVICE, dtype).requires_grad_()
    coefficients = torch.randn(heads, rank, tokens, series.num_functions, device=DEVICE, requires_grad=True)
    weight = torch.randn(heads, tokens, rank + bias, device=DEVICE, requires_grad=True)
    return qkv, coefficients, weight


@pytest.mark.parametrize(
    ("series", "bias", "tokens", "dtype"),
    [
        (Series(1), False, 33, torch.float32),
        (Series(3, True), True, 70, torch.float32),  # ragged last tiles of queries and of keys
        (Series(3), False, 33, HALF),
    ],
)
def test_agree_with_the_closed_form(series, bias, tokens, dtype):
    inputs = case(series, 5, bias, tokens, dtype, batch=1 if series.constant else 2)
    q, k, v = inputs[0].permute(2, 0, 3, 1, 4).unbind(0)
    g = torch.randn(q.shape).to(DEVICE, dtype)
    results = []
    for function in (fused_fourier_attention, fourier_attention):
        out = function(q, k, v, *inputs[1:], series, 0.3)
        results.append((out, *torch.autograd.grad(out, inputs, g)))
    assert results[0][0].dtype == dtype
    assert results[0][0].transpose(1, 2).is_contiguous()
    for found, expected in zip(*results, strict=True):
        error = (found - expected).abs().max() / expected.abs().max()
        assert error < ROUNDING[dtype]


def test_the_operator_hands_them_its_parameters():
    operator = KArAtOperator(1, 20, 3, unit_scales=True, w_bias="layer", implementation="triton").to(DEVICE)
    x = torch.randn(1, 1, 20, 8, device=DEVICE)
    with torch.no_grad():
        operator.bias.normal_()
        operator.units.scale_basis.normal_()
        found = operator(x, x, x)
        operator.implementation = "naive"
        torch.testing.assert_close(found, operator(x, x, x), rtol=1e-5, atol=1e-5)


def test_are_the_same_bit_by_bit_from_run_to_run():
    inputs = case(Series(1), 3, False, 20, torch.float32, batch=1)
    q, k, v = inputs[0].permute(2, 0, 3, 1, 4).unbind(0)
    runs = []
    for _ in range(2):
        out = fused_fourier_attention(q, k, v, *inputs[1:], Series(1), 0.3)
        runs.append(torch.autograd.grad(out.sum(), inputs))
    assert all(torch.equal(one, other) for one, other in zip(*runs, strict=True))
