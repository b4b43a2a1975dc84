"""Polynomial recurrences: values, derivatives, normalization. scipy.special is the oracle."""

import numpy as np
import pytest
import torch
from scipy import special

from kanvision.expansion.define import evaluate
from kanvision.ops import polynomials as op


def binet(n, x):
    """Fibonacci F_n and Lucas L_n."""
    root = np.sqrt(x**2 + 4)
    up, down = (x + root) / 2, (x - root) / 2
    return (up**n - down**n) / root, up**n + down**n


ORACLES = {
    "chebyshev_u": (op.chebyshev_u, special.eval_chebyu),
    "fibonacci": (op.fibonacci, lambda n, x: binet(n + 1, x)[0]),
    "lucas": (op.lucas, lambda n, x: binet(n, x)[1] if n else np.ones_like(x)),
    "chebyshev": (op.chebyshev, special.eval_chebyt),
    "legendre": (op.legendre, special.eval_legendre),
    "hermite": (op.hermite, special.eval_hermite),
    "jacobi": (lambda d: op.jacobi(d, 1.0, 1.0), lambda n, x: special.eval_jacobi(n, 1.0, 1.0, x)),
    "jacobi_skew": (lambda d: op.jacobi(d, -0.5, 2.5), lambda n, x: special.eval_jacobi(n, -0.5, 2.5, x)),
    "gegenbauer": (lambda d: op.gegenbauer(d, 3.0), lambda n, x: special.eval_gegenbauer(n, 3.0, x)),
}


def polynomials(x, a, b, c, dim, first=0):
    return evaluate(op.define_polynomials(len(a), first=first), x, [torch.cat([a, b, c])], dim, 0)


def columns(recurrence):
    return [torch.tensor(column, dtype=torch.float64) for column in recurrence]


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("degree", [0, 1, 2, 9])
def test_values(name, degree):
    recurrence, oracle = ORACLES[name]
    x = np.linspace(-1.5, 1.5, 50)
    got = polynomials(torch.from_numpy(x), *columns(recurrence(degree)), 1)
    expected = np.stack([oracle(n, x) for n in range(degree + 1)], 1)
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ORACLES)
def test_normalized_is_bounded_and_proportional(name):
    x = torch.linspace(-1, 1, 7001, dtype=torch.float64)
    recurrence = ORACLES[name][0](12)
    raw, scaled = (polynomials(x, *columns(r), 0) for r in (recurrence, op.normalized(recurrence)))
    peaks = scaled.abs().amax(1)
    assert (peaks <= 1).all()
    assert (peaks > 0.999).all()
    torch.testing.assert_close(scaled, raw / raw.abs().amax(1, keepdim=True), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("m", [5, 12])
def test_gram_is_orthogonal_over_its_points(m):
    points = -1 + (2 * torch.arange(m, dtype=torch.float64) + 1) / m
    values = polynomials(points, *columns(op.gram(m - 1, m)), 0)
    products = values @ values.T
    scale = products.diagonal().sqrt()
    torch.testing.assert_close(products / scale / scale[:, None], torch.eye(m, dtype=torch.float64))


def test_gram_parity_reproduces_the_published_constants():
    published = [2.25, 33.333333, 137.8125, 362.88, 756.25, 1365.795918]
    assert op.gram(7, 32, parity=True).c[1:] == pytest.approx(published)


@pytest.mark.parametrize("degree", range(5))
@pytest.mark.parametrize("first", [0, 1])
def test_derivatives_in_points_and_coefficients(degree, first):
    torch.manual_seed(0)
    if first > degree:
        pytest.skip("nothing is left")
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    coefficients = [torch.randn(degree, dtype=torch.float64, requires_grad=True) for _ in range(3)]

    def function(*args):
        return polynomials(*args, 1, first=first)

    full = polynomials(x, *coefficients, 1)
    torch.testing.assert_close(function(x, *coefficients), full[:, first:])
    assert torch.autograd.gradcheck(function, (x, *coefficients))
    assert torch.autograd.gradgradcheck(function, (x, *coefficients))
