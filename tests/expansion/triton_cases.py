"""Tests of the generated GPU kernels, run by `test_triton_kernels.py`: on a GPU, or interpreted."""

from __future__ import annotations

import copy

import pytest
import torch

from kanvision.bases.registry import SINGLE_BASES
from kanvision.expansion import build, fused_conv, triton_kernels
from kanvision.layers import KANConv2d, KANLinear

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ROUNDING = {torch.float32: 5e-6, torch.float16: 1e-2}


@pytest.fixture
def launched(monkeypatch):
    """Names of the generated modules whose kernels were looked up."""
    names = []
    load = triton_kernels.load_module

    def record(code):
        names.append(code.split("def ", 1)[1].split("(", 1)[0])
        return load(code)

    for module in (triton_kernels, fused_conv):
        monkeypatch.setattr(module, "load_module", record)
    triton_kernels.load_kernels.cache_clear()
    fused_conv.load_kernels.cache_clear()
    return names


def compare(layer, shape, dtype=torch.float32):
    """Compare the result and all gradients with the plain formula in double precision."""
    torch.manual_seed(0)
    layer = layer.to(DEVICE)
    x = torch.randn(shape, device=DEVICE)
    results = []
    for used, to in ((layer.to(dtype), dtype), (copy.deepcopy(layer).double(), torch.float64)):
        points = x.to(dtype).to(to).requires_grad_()
        y = used(points)
        leaves = [points, *(p for p in used.parameters() if p.requires_grad)]
        results.append([y, *torch.autograd.grad(y.square().sum(), leaves, allow_unused=True)])
    for found, expected in zip(*results, strict=True):
        if expected is not None:
            scale = expected.abs().max().clamp_min(1e-6)
            assert (found.double() - expected).abs().max() <= ROUNDING[dtype] * scale


@pytest.mark.parametrize("basis", sorted(SINGLE_BASES))
def test_linear(basis, launched):
    compare(KANLinear(5, 6, basis=basis), (9, 5))
    assert {"values", "gradients"} <= set(launched)


@pytest.mark.parametrize(
    "basis", ["bspline", "gram", "rswaf"]
)  # shared inputs, a constant function, channels
def test_fused_convolution(basis, launched, monkeypatch):
    monkeypatch.setenv(fused_conv.SWITCH, "on")
    compare(KANConv2d(5, 6, 3, padding=1, basis=basis), (1, 5, 4, 5))
    assert {"forward", "points_backward"} <= set(launched)


@pytest.mark.parametrize(
    "options",
    [
        {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)},
        {"kernel_size": 1},
        {"kernel_size": 5, "padding": 2, "stride": 3},
    ],
    ids=["uneven", "one tap", "stride"],
)
def test_geometry(options, monkeypatch):
    monkeypatch.setenv(fused_conv.SWITCH, "on")
    compare(KANConv2d(3, 4, **{"kernel_size": 3, **options}, basis="gram"), (2, 3, 6, 5))


@pytest.mark.parametrize("fused", ["off", "on"])
def test_half_precision(fused, monkeypatch):
    # float16: the interpreter has no products of bfloat16
    monkeypatch.setenv(fused_conv.SWITCH, fused)
    compare(KANConv2d(5, 6, 3, basis="bspline"), (1, 5, 4, 5), torch.float16)


@pytest.mark.parametrize("fused", ["off", "on"])
def test_autocast(fused, monkeypatch):
    """Would catch products in float32 under autocast, and results of another dtype than those of a layer."""
    monkeypatch.setenv(fused_conv.SWITCH, fused)
    layer = KANConv2d(3, 4, 3, basis="gram").to(DEVICE)
    x = torch.randn(1, 3, 5, 5, device=DEVICE)
    with torch.autocast(DEVICE, dtype=torch.float16):
        y = layer(x)
    assert y.dtype == torch.float16
    torch.testing.assert_close(y.float(), layer(x), rtol=1e-2, atol=1e-2)
    found = torch.autograd.grad(y.float().square().sum(), layer.basis_weight)[0]
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found, torch.autograd.grad(layer(x).square().sum(), layer.basis_weight)[0], rtol=2e-2, atol=2e-2
    )


def test_many_rows_and_a_long_row(launched):
    """Would catch a wrong walk over tiles, and sums that miss programs."""
    compare(KANConv2d(3, 4, 1, basis="rswaf"), (1, 3, 34, 31))
    compare(KANLinear(3, 4, basis="sine"), (1300, 3))


def test_nan_stays_in_its_place():
    layer = KANConv2d(2, 3, 1, basis="bspline").to(DEVICE)
    x = torch.randn(1, 2, 4, 4, device=DEVICE)
    x[0, 0, 1, 2] = torch.nan
    found = layer(x)[0].isnan().any(0)
    assert found.nonzero().tolist() == [[1, 2]]


def test_switched_off(monkeypatch, launched):
    monkeypatch.setenv("KANVISION_KERNELS", "off")
    build.read_environment()
    compare(KANLinear(5, 6, basis="gram"), (9, 5))
    monkeypatch.undo()
    build.read_environment()
    assert launched == []
