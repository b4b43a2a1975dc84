"""Tests of the kernels of the group rational; run by `tests/expansion/test_triton_kernels.py`."""

import pytest
import torch

from kanvision.layers import RATIONAL_PRESETS
from kanvision.ops.rational import FORMS, rational, rational_reference
from kanvision.ops.rational_fused import fused_rational, fused_rational_gradients

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ROUNDING = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def case(shape, dim, groups, dtype=torch.float32, preset="swish", shared=True, magnitude=2.0, noise=0.05):
    torch.manual_seed(0)
    a, b = (torch.tensor(c, dtype=torch.float64) for c in RATIONAL_PRESETS[preset])
    numerator = a.expand(1 if shared else groups, -1) + noise * torch.randn(1 if shared else groups, len(a))
    denominator = b.expand(groups, -1) + noise * torch.randn(groups, len(b))
    wide = dtype if dtype == torch.float64 else torch.float32
    x, grad = (magnitude * torch.randn(shape)).to(dtype), torch.randn(shape).to(dtype)
    return [t.to(DEVICE) for t in (grad, x, numerator.to(wide), denominator.to(wide))], dim % len(shape)


def found(tensors, dim, form="kernel"):
    grad, x, a, b = tensors
    return fused_rational(x, a, b, dim, form), *fused_rational_gradients(grad, x, a, b, dim, form)


def expected(tensors, dim, form="kernel"):
    """By the plain formula and autograd in double precision, and the magnitudes of what is added up."""
    grad, x, a, b = (t.detach().double() for t in tensors)
    leaves = [t.requires_grad_() for t in (x, a, b)]
    y = rational_reference(*leaves, dim, form)
    dx, da, db = torch.autograd.grad(y, leaves, grad)
    terms = sum(grad.abs().sum() * x.abs().amax() ** k for k in range(6)).item()
    scales = (y.abs().amax().item(), grad.abs().amax().item() * 2, terms, terms)
    return [(t.detach(), s) for t, s in zip((y, dx, da, db), scales, strict=True)]


def compare(tensors, dim, form="kernel"):
    x = tensors[1]
    for got, (want, scale) in zip(found(tensors, dim, form), expected(tensors, dim, form), strict=True):
        assert got.shape == want.shape
        assert (got.double() - want).abs().max().item() <= ROUNDING[x.dtype] * max(scale, 1e-3)


@pytest.mark.parametrize("preset", RATIONAL_PRESETS)
@pytest.mark.parametrize("form", FORMS)
def test_presets_and_forms(preset, form):
    compare(*case((2, 5, 16), -1, 2, preset=preset, noise=0.0), form)


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("shared", [True, False])
def test_dtypes(dtype, shared):
    tensors, dim = case((3, 7, 24), -1, 3, dtype, shared=shared)
    compare(tensors, dim)
    y, dx, da, db = found(tensors, dim)
    assert y.dtype == dx.dtype == dtype
    assert da.dtype == db.dtype == tensors[2].dtype


@pytest.mark.parametrize(
    ("shape", "dim", "groups"),
    [
        ((1, 8), -1, 8),  # a packet is one channel
        ((3, 24), -1, 8),  # three channels a group
        ((2, 3, 36), -1, 9),  # four
        ((5, 96), -1, 8),  # twelve, in packets of four
        ((1, 1, 192), -1, 8),
        ((2, 513, 8), -1, 1),  # more rows than a tile
        ((2, 40), -1, 5),
        ((8,), 0, 2),
        ((2, 6, 5, 7), 1, 3),  # images of odd sides
        ((2, 16, 1, 3), 1, 2),
        ((3, 8, 33), 1, 4),
        ((2, 4, 300), 1, 4),  # more positions than a tile
        ((2, 3, 12, 5), -2, 4),
    ],
)
def test_shapes(shape, dim, groups):
    compare(*case(shape, dim, groups))
    compare(*case(shape, dim, groups, shared=False), "paper")


def test_fewer_coefficients_than_the_kernels_have():
    tensors, dim = case((4, 8), -1, 2)
    compare([*tensors[:2], tensors[2][:, :3], tensors[3][:, :2]], dim)


def test_strides_and_expanded_gradients():
    (grad, x, a, b), _ = case((4, 6, 16), -1, 2)
    views = {
        "transposed": (grad.transpose(0, 1), x.transpose(0, 1)),
        "every second": (grad[:, ::2], x[:, ::2]),
        "expanded": (torch.ones((), device=DEVICE).expand(4, 6, 16), x[:1].expand(4, 6, 16)),
    }
    for name, (g, view) in views.items():
        compare([g, view, a, b], 2)
        assert fused_rational(view, a, b, 2, "kernel").shape == view.shape, name
    image = torch.randn(2, 16, 3, 5, device=DEVICE).to(memory_format=torch.channels_last)
    compare([torch.randn_like(image), image, a, b], 1)
    assert fused_rational(image, a, b, 1, "kernel").is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("form", FORMS)
def test_where_monomials_overflow(form):
    (grad, x, a, b), dim = case((6, 8), -1, 2, noise=0.0)
    x = x * torch.logspace(-3, 30, 6, device=DEVICE)[:, None]
    y, dx, da, db = found([grad, x, a, b], dim, form)
    (want, _), (slope, _), *rest = expected([grad, x, a, b], dim, form)
    torch.testing.assert_close(y.double(), want, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(dx.double(), slope, rtol=1e-4, atol=1e-5)
    for got, (sums, _) in zip((da, db), rest, strict=True):
        assert got.isfinite().all()
        torch.testing.assert_close(got.double(), sums, rtol=1e-3, atol=1e-3)


def test_undefined_stays_undefined_and_alone():
    (_, x, a, b), dim = case((4, 8), -1, 2)
    x[1, 2] = torch.nan
    y = fused_rational(x, a, b, dim, "kernel")
    assert y.isnan().sum() == 1
    assert y[1, 2].isnan()


def test_signs_at_zero_count_as_positive():
    x = torch.zeros(1, 4, device=DEVICE)
    a, b = (
        torch.tensor([[1.0, 0, 0, 0, 0, 0]], device=DEVICE),
        torch.tensor([[0.5, 0, 0, 0]] * 2, device=DEVICE),
    )
    for form in FORMS:
        dx, _, _ = fused_rational_gradients(torch.ones_like(x), x, a, b, 1, form)
        torch.testing.assert_close(dx, torch.full_like(x, -0.5))


def test_empty_input():
    (_, _, a, b), _ = case((2, 8), -1, 2)
    x = torch.empty(0, 8, device=DEVICE)
    y, dx, da, db = found([x, x, a, b], 1)
    assert y.shape == dx.shape == (0, 8)
    assert not da.any()
    assert not db.any()


def test_two_backward_passes_are_equal_bit_by_bit():
    tensors, dim = case((7, 131, 48), -1, 4, noise=0.1)
    first, second = found(tensors, dim), found(tensors, dim)
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_the_operator_uses_them():
    """Values and both orders of derivatives through the public function."""
    (grad, x, a, b), _ = case((3, 5, 16), -1, 2)
    leaves = [t.requires_grad_() for t in (x, a, b)]
    y = rational(*leaves)
    assert torch.equal(y, fused_rational(x, a, b, 2, "kernel"))
    first = torch.autograd.grad(y, leaves, grad)
    assert all(map(torch.equal, first, fused_rational_gradients(grad, x, a, b, 2, "kernel")))
