"""Formulas of B-splines against scipy and against each other."""

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from kanvision.ops.bspline import EVALUATIONS, legal_evaluations, matrix_form, uniform_knots
from tests.covering import pairwise

from .splines import bspline, cox_de_boor


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
    for evaluation in legal_evaluations(degree, uniform=True):
        values = bspline(x, knots, degree, 1, uniform=True, evaluation=evaluation)
        np.testing.assert_allclose(values, expected, atol=1e-12, err_msg=evaluation)
    np.testing.assert_allclose(cox_de_boor(x, knots, degree, 1), expected, atol=1e-12)


def test_which_evaluations_are_legal():
    assert legal_evaluations(3, uniform=True) == EVALUATIONS
    assert legal_evaluations(1, uniform=True) == ("auto", "local", "matrix", "cox_de_boor")
    assert legal_evaluations(3, uniform=False) == ("auto", "cox_de_boor")


PUBLISHED_MATRICES = {
    0: (1, [[1]]),
    1: (1, [[1, 0], [-1, 1]]),
    2: (2, [[1, 1, 0], [-2, 2, 0], [1, -2, 1]]),
    3: (6, [[1, 4, 1, 0], [-3, 0, 3, 0], [3, -6, 3, 0], [-1, 3, -3, 1]]),
    4: (
        24,
        [[1, 11, 11, 1, 0], [-4, -12, 12, 4, 0], [6, -6, -6, 6, 0], [-4, 12, -12, 4, 0], [1, -4, 6, -4, 1]],
    ),
}


@pytest.mark.parametrize("degree", PUBLISHED_MATRICES)
def test_matrix_form_is_the_published_one(degree):
    divisor, rows = PUBLISHED_MATRICES[degree]
    np.testing.assert_allclose(matrix_form(degree), np.array(rows) / divisor, rtol=1e-15, atol=0)


@pytest.mark.parametrize("degree", range(1, 9))
def test_matrix_form_follows_its_recursion(degree):
    lower, order = np.array(matrix_form(degree - 1)), degree + 1
    spread, shift = np.zeros((degree, order)), np.zeros((degree, order))
    for i in range(degree):
        spread[i, i], spread[i, i + 1] = i + 1, order - 2 - i
        shift[i, i], shift[i, i + 1] = -1, 1
    zero = np.zeros((1, degree))
    expected = (np.vstack([lower, zero]) @ spread + np.vstack([zero, lower]) @ shift) / degree
    np.testing.assert_allclose(matrix_form(degree), expected, atol=1e-15)


@pytest.mark.parametrize("degree", range(6))
@pytest.mark.parametrize("size", [1, 2, 5, 7, 11, 16])
@pytest.mark.parametrize("high", [1.0, 2.0, 3.0])
def test_evaluations_agree_in_float32(size, degree, high):
    torch.manual_seed(size)
    knots = torch.tensor(uniform_knots(size, degree, -high, high))
    # No point is so near to a knot that rounding moves it across, where steps and kinks would show it.
    cells = torch.rand(4000) * 0.998 + 0.001 + torch.randint(-1, size + 1, (4000,))
    x = (cells * (2 * high / size) - high).requires_grad_()
    weights = torch.randn(size + degree)
    results = {}
    for evaluation in legal_evaluations(degree, uniform=True):
        values = bspline(x, knots, degree, 1, uniform=True, evaluation=evaluation)
        (slope,) = torch.autograd.grad(values @ weights @ torch.ones(4000) + 0 * x.sum(), x)
        results[evaluation] = values.detach(), slope
    reference, slope = results["cox_de_boor"]
    for values, other_slope in results.values():
        torch.testing.assert_close(values, reference, rtol=0, atol=1e-6)
        # The slope of a parabola turns by 2 in a cell, so that places in float32 give no more digits.
        largest = float(slope.abs().max())
        torch.testing.assert_close(other_slope, slope, rtol=0, atol=4e-6 * largest + 1e-12)


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


@pytest.mark.parametrize(("size", "degree", "dim"), pairwise([4, 16], range(6), [0, 1, 2]))
def test_derivatives_match_autograd_through_the_recursion(size, degree, dim):
    torch.manual_seed(0)
    knots = grid(size, degree)
    weights = torch.randn(*[3, 4][:dim], knots.numel() - 1 - degree, *[3, 4][dim:], dtype=torch.float64)
    cases = [(True, evaluation) for evaluation in legal_evaluations(degree, uniform=True)]
    for uniform, evaluation in [*cases, (False, "auto")]:
        x = (1.3 * torch.randn(3, 4, dtype=torch.float64)).requires_grad_()
        values = bspline(x, knots, degree, dim, uniform=uniform, evaluation=evaluation)
        got = [(values * weights).sum() + 0 * x.sum()]
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


@pytest.mark.parametrize(
    ("degree", "evaluation"), [(k, name) for k in (1, 2, 3) for name in legal_evaluations(k, uniform=True)]
)
def test_gradcheck(degree, evaluation):
    torch.manual_seed(degree)
    x = (2 * torch.randn(7, dtype=torch.float64)).requires_grad_()

    def function(x):
        return bspline(x, grid(4, degree), degree, 0, uniform=True, evaluation=evaluation)

    assert torch.autograd.gradcheck(function, (x,))
    assert degree == 1 or torch.autograd.gradgradcheck(function, (x,), fast_mode=True)


@pytest.mark.parametrize("size", range(1, 65))
def test_steps_cover_the_whole_range(size):
    for high in (1.0, 0.7, 3.0):
        knots = torch.tensor(uniform_knots(size, 0, -high, high))
        for evaluation in legal_evaluations(0, uniform=True):
            values = bspline(knots[[0, -1]], knots, 0, 1, uniform=True, evaluation=evaluation)
            assert torch.equal(values, torch.eye(size)[[0, -1]])


@pytest.mark.parametrize(
    ("uniform", "evaluation"), [*((True, name) for name in EVALUATIONS), (False, "auto")]
)
@pytest.mark.parametrize("size", [5, 40])
def test_far_and_undefined_inputs(size, uniform, evaluation):
    x = torch.tensor([float("inf"), -float("inf"), 1e30, -1e30, 1e4, float("nan")], requires_grad=True)
    values = bspline(x, grid(size, 3, torch.float32), 3, 1, uniform=uniform, evaluation=evaluation)
    assert values[:5].eq(0).all()
    assert values[5].isnan().any()
    values[:5].sum().backward()
    assert x.grad[:5].eq(0).all()
