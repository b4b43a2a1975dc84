"""Projection onto the simplex against bisection, an independent way to the same threshold."""

import pytest
import torch

from kanvision.ops.simplex import project_simplex


def by_bisection(y: torch.Tensor) -> torch.Tensor:
    """sum max(y - t, 0) falls with t: halve the interval that holds the t where it is 1."""
    low, high = y.amin(-1, keepdim=True) - 1, y.amax(-1, keepdim=True)
    for _ in range(200):
        middle = (low + high) / 2
        above = (y - middle).clamp(min=0).sum(-1, keepdim=True) > 1
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return (y - low).clamp(min=0)


@pytest.mark.parametrize("size", [1, 2, 7, 197])
@pytest.mark.parametrize("spread", [0.01, 1.0, 100.0])
def test_is_that_of_an_independent_solver(size, spread):
    torch.manual_seed(0)
    y = spread * torch.randn(3, 5, size, dtype=torch.double)
    x = project_simplex(y)
    torch.testing.assert_close(x, by_bisection(y), rtol=0, atol=1e-9)
    assert (x >= 0).all()
    torch.testing.assert_close(x.sum(-1), torch.ones(3, 5, dtype=torch.double))


def test_no_point_of_the_simplex_is_nearer():
    torch.manual_seed(0)
    y = torch.randn(6, dtype=torch.double)
    others = torch.distributions.Dirichlet(torch.full((6,), 0.3, dtype=torch.double)).sample((20_000,))
    assert (project_simplex(y) - y).norm() <= (others - y).norm(dim=1).min()


def test_points_of_the_simplex_stay():
    x = torch.softmax(torch.randn(4, 9, dtype=torch.double), -1)
    torch.testing.assert_close(project_simplex(x), x)


def test_gradient_is_that_on_the_support():
    y = torch.tensor([0.9, 0.5, -3.0, 0.1], dtype=torch.double, requires_grad=True)
    g = torch.tensor([1.0, 2.0, 5.0, 6.0], dtype=torch.double)
    x = project_simplex(y)
    assert (x > 0).tolist() == [True, True, False, False]
    x.backward(g)
    assert y.grad.tolist() == [-0.5, 0.5, 0, 0]
    torch.manual_seed(0)
    z = torch.randn(3, 8, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(project_simplex, z)
    assert torch.autograd.gradgradcheck(project_simplex, z)


@pytest.mark.parametrize("huge", [1e12, -1e12])
def test_huge_values_give_a_point_of_the_simplex(huge):
    x = project_simplex(torch.tensor([huge, huge / 2, 0.0, 3.0]))
    assert x.isfinite().all()
    assert (x >= 0).all()
