"""The closed forms of the group rational: range, other degrees, the form of the paper, chunks."""

import pytest
import torch
from torch.autograd import gradcheck

from kanvision.layers import RATIONAL_PRESETS
from kanvision.ops import rational_closed as module
from kanvision.ops.rational import rational, rational_reference

from .rational_oracle import coefficients, sums_of_magnitudes, value_and_grads

LARGEST = torch.finfo(torch.float32).max


@pytest.mark.parametrize("preset", RATIONAL_PRESETS)
@pytest.mark.parametrize("readable", [True, False])
def test_every_finite_input_has_a_value_and_a_slope(preset, readable, monkeypatch):
    monkeypatch.setattr(module, "_values_are_readable", lambda x: readable)
    a, b = coefficients(preset)
    x = (
        torch.logspace(-30, 38.5, 40).clamp(max=LARGEST)[:, None] * torch.tensor([1.0, -1.0])
    ).requires_grad_()
    y = rational(x, a, b)
    (dx,) = torch.autograd.grad(y, x, torch.ones_like(y))
    wide = x.detach().double().requires_grad_()
    want = rational_reference(wide, a.double(), b.double())
    (want_dx,) = torch.autograd.grad(want, wide, torch.ones_like(want))
    assert not y.isnan().any()
    assert not dx.isnan().any()
    inside = want.abs() < LARGEST
    assert torch.allclose(y.double()[inside], want[inside], rtol=1e-5, atol=1e-6)
    assert torch.allclose(dx.double()[inside], want_dx[inside], rtol=1e-5, atol=1e-5)
    assert (y[~inside].abs() >= LARGEST / 2).all()


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("preset", ["swish", "gelu", "tanh"])
@pytest.mark.parametrize("magnitude", [1e9, 1e12])
def test_gradients_of_coefficients_where_monomials_overflow(preset, magnitude, shared):
    torch.manual_seed(0)
    a, b = coefficients(preset, shared=shared)
    x = torch.empty(5, 8).uniform_(-magnitude, magnitude)
    x[0] = torch.randn(8)  # with an ordinary neighbor
    grad = torch.randn_like(x)
    got = value_and_grads(rational, x, a, b, grad)[2:]
    want = value_and_grads(rational_reference, *(t.double() for t in (x, a, b, grad)))[2:]
    for g, w, scale in zip(got, want, sums_of_magnitudes(x, grad, a, b), strict=True):
        assert ((g - w).abs() <= 1e-5 * scale).all()


@pytest.mark.parametrize("readable", [True, False])
def test_what_overflows_is_infinite_and_not_undefined(readable, monkeypatch):
    monkeypatch.setattr(module, "_values_are_readable", lambda x: readable)
    a, b = torch.tensor([[0.0, 1, 0, 0, 0, 1e-3]]), torch.zeros(2, 4)  # a polynomial
    x = torch.tensor([[1e9, -1e9, 1e30, -1e38]], requires_grad=True)
    y = rational(x, a, b)
    assert y.tolist() == [[torch.inf, -torch.inf, torch.inf, -torch.inf]]
    (dx,) = torch.autograd.grad(y, x, torch.ones_like(y))
    assert dx[0, 0].item() == pytest.approx(5e33)
    assert not dx.isnan().any()
    (none,) = torch.autograd.grad(rational(x, a, b), x, torch.zeros_like(y))
    assert not none.any()


def test_outliers_do_not_change_their_neighbors():
    torch.manual_seed(0)
    a, b = coefficients()
    x = torch.randn(4, 8)
    with_outlier = x.clone()
    with_outlier[2, 3] = 1e30
    keep = torch.ones_like(x, dtype=torch.bool)
    keep[2, 3] = False
    assert torch.allclose(rational(x, a, b)[keep], rational(with_outlier, a, b)[keep], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("preset", RATIONAL_PRESETS)
@pytest.mark.parametrize("readable", [True, False])
def test_the_form_of_the_paper(preset, readable, monkeypatch):
    monkeypatch.setattr(module, "_values_are_readable", lambda x: readable)
    torch.manual_seed(0)
    a, b = coefficients(preset, noise=0.1)
    for scale in (torch.ones(6, 1), torch.logspace(-3, 30, 6)[:, None]):
        x, grad = torch.randn(6, 8) * scale, torch.randn(6, 8)
        y, dx, da, db = value_and_grads(rational, x, a, b, grad, form="paper")
        wide = [t.double() for t in (x, a, b, grad)]
        p = sum(wide[1][0, i] * wide[0] ** i for i in range(6))
        by_group = wide[2].repeat_interleave(4, 0)
        q = 1 + sum(by_group[:, j] * wide[0] ** (j + 1) for j in range(4)).abs()
        torch.testing.assert_close(y.double(), p / q, rtol=1e-4, atol=1e-5)
        want = value_and_grads(rational_reference, *wide, form="paper")
        torch.testing.assert_close(dx.double(), want[1], rtol=1e-3, atol=1e-4)
        assert da.isfinite().all()
        assert db.isfinite().all()
    different = rational(x, a, b) != rational(x, a, b, form="paper")
    assert different.any() or preset == "identity"


@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 4), (2, 3), (3, 2), (6, 2)])
@pytest.mark.parametrize("readable", [True, False])
def test_other_degrees(m, n, readable, monkeypatch):
    monkeypatch.setattr(module, "_values_are_readable", lambda x: readable)
    torch.manual_seed(0)
    inputs = [torch.randn(s, dtype=torch.float64).requires_grad_() for s in ((3, 4), (2, m + 1), (1, n))]
    assert gradcheck(rational, inputs)
    # far out, where monomials overflow, the leading terms are all there is
    x = torch.tensor([[1.0, -1.0, 2.0, -2.0]], dtype=torch.float64) * (1e60 if m > n + 1 else 1e200)
    a, b = (t.detach() for t in inputs[1:])
    leading = a[:, -1].repeat_interleave(2) / b[0, -1].abs() * x.sign() ** m * x.abs() ** (m - n)
    assert leading.isfinite().all()
    assert torch.allclose(rational(x, a, b), leading, rtol=1e-9)


def test_chunks_of_a_large_tensor_are_the_whole(monkeypatch):
    torch.manual_seed(0)
    a, b = coefficients(shared=False, noise=0.1)
    x, grad = torch.randn(7, 5, 8), torch.randn(7, 5, 8)
    whole = value_and_grads(rational, x, a, b, grad)
    monkeypatch.setattr(module, "_CHUNK_PER_THREAD", 32)
    axis, length = module._chunking(x, 2)
    assert 0 < length < x.shape[axis]
    parts = value_and_grads(rational, x, a, b, grad)
    assert torch.equal(whole[0], parts[0])
    assert torch.equal(whole[1], parts[1])
    for got, want in zip(parts[2:], whole[2:], strict=True):
        assert torch.allclose(got, want, rtol=1e-5, atol=1e-5)
