"""B-spline operators against scipy and against each other."""

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from kanvision.ops.bspline import bspline, cox_de_boor, uniform_knots


def scipy_values(x, knots, degree):
    t = np.asarray(knots, dtype=np.float64)
    count = len(t) - degree - 1
    values = BSpline(t, np.eye(count), degree, extrapolate=False)(np.asarray(x))
    inside = (np.asarray(x) >= t[0]) & (np.asarray(x) <= t[-1])
    # Between the outermost knots, beyond scipy's base interval, single elements still have values.
    for j in range(count):
        element = BSpline.basis_element(t[j : j + degree + 2], extrapolate=False)
        values[:, j] = np.where(inside, np.nan_to_num(element(np.asarray(x))), 0)
    return values


def grid(size, degree, dtype=torch.float64):
    return torch.tensor(uniform_knots(size, degree, -1.0, 1.0), dtype=dtype)


@pytest.mark.parametrize("degree", range(7))
@pytest.mark.parametrize("size", [1, 5, 40])
def test_uniform_knots_match_scipy(size, degree):
    knots = grid(size, degree)
    x = torch.linspace(-3, 3, 400, dtype=torch.float64)[1:-1] + 1e-4
    expected = scipy_values(x, knots, degree)
    np.testing.assert_allclose(bspline(x, knots, degree, 1, uniform=True), expected, atol=1e-12)
    np.testing.assert_allclose(cox_de_boor(x, knots, degree, 1), expected, atol=1e-12)


@pytest.mark.parametrize("degree", range(6))
def test_any_knots_match_scipy(degree):
    inner = [-1.0, -0.7, -0.65, 0.1, 0.1, 0.8, 1.0]  # with a double knot
    knots = torch.tensor([-1.0] * degree + inner + [1.0] * degree, dtype=torch.float64)
    x = torch.linspace(-1.2, 1.2, 201, dtype=torch.float64) + 1e-5
    values = bspline(x, knots, degree, 1, uniform=False)
    expected = scipy_values(x, knots, degree) if degree else None
    if expected is not None:
        np.testing.assert_allclose(values, expected, atol=1e-12)
    inside = (x >= -1) & (x <= 1)
    torch.testing.assert_close(values[inside].sum(1), torch.ones(int(inside.sum()), dtype=torch.float64))
    assert values[~inside].eq(0).all()


@pytest.mark.parametrize(("size", "degree"), [(5, 3), (16, 3), (64, 3), (5, 5), (5, 10)])
def test_float32_keeps_its_digits(size, degree):
    x = torch.linspace(-3, 3, 4000)
    exact = cox_de_boor(x.double(), grid(size, degree), degree, 1)
    got = bspline(x, grid(size, degree, torch.float32), degree, 1, uniform=True)
    # Knots are rounded too, by 1e-7 of a unit, which the slope K / 2 of a function turns into values.
    assert (got - exact).abs().max() < 2e-6 + 1e-7 * size


@pytest.mark.parametrize("degree", range(6))
@pytest.mark.parametrize("size", [4, 30])
@pytest.mark.parametrize("dim", [0, 1, 2])
def test_derivatives_match_autograd_through_the_recursion(size, degree, dim):
    torch.manual_seed(0)
    knots = grid(size, degree)
    weights = torch.randn(*[3, 4][:dim], knots.numel() - 1 - degree, *[3, 4][dim:], dtype=torch.float64)
    for uniform in (True, False):
        x = (1.3 * torch.randn(3, 4, dtype=torch.float64)).requires_grad_()
        got = [(bspline(x, knots, degree, dim, uniform=uniform) * weights).sum()]
        want = [(cox_de_boor(x, knots, degree, dim) * weights).sum() + 0 * x.sum()]
        for _ in range(3):
            for chain in (got, want):
                (slope,) = torch.autograd.grad(chain[-1].sum(), x, create_graph=True)
                chain.append(slope + 0 * x)
        for order in range(1, 4):
            scale = max(1.0, float(want[order].detach().abs().max()))
            torch.testing.assert_close(got[order] / scale, want[order] / scale, atol=1e-9, rtol=0)


@pytest.mark.parametrize("degree", [1, 2, 3])
@pytest.mark.parametrize("size", [4, 30])
def test_gradient_on_a_knot_is_one_of_its_sides(size, degree):
    knots = grid(size, degree)
    coefficients = torch.randn(knots.numel() - 1 - degree, dtype=torch.float64)

    def slope(points):
        x = points.clone().requires_grad_()
        return torch.autograd.grad((bspline(x, knots, degree, 1, uniform=True) @ coefficients).sum(), x)[0]

    on = slope(knots[degree:-degree])
    sides = torch.stack([slope(knots[degree:-degree] + step) for step in (-1e-9, 1e-9)])
    assert (on >= sides.amin(0) - 1e-5).all()
    assert (on <= sides.amax(0) + 1e-5).all()


@pytest.mark.parametrize("uniform", [True, False])
@pytest.mark.parametrize("size", [5, 40])
def test_far_and_undefined_inputs(size, uniform):
    x = torch.tensor([float("inf"), -float("inf"), 1e30, -1e30, 1e4, float("nan")], requires_grad=True)
    values = bspline(x, grid(size, 3, torch.float32), 3, 1, uniform=uniform)
    assert values[:5].eq(0).all()
    assert values[5].isnan().any()
    values[:5].sum().backward()
    assert x.grad[:5].eq(0).all()


def test_keeps_only_its_arguments():
    x = torch.randn(100, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        bspline(x, grid(5, 3, torch.float32), 3, 1, uniform=True)
    assert sum(t.numel() for t in kept) <= x.numel() + 2
