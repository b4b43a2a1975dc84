"""Every basis against an independent implementation or a property that defines it."""

import math

import numpy as np
import pytest
import torch
from numpy.polynomial import chebyshev, hermite, legendre
from scipy import special
from scipy.interpolate import BPoly, BSpline

from kanvision.bases import create_basis

X = np.linspace(-0.97, 0.97, 83)


def values(name, x=X, **kwargs):
    """(len(x), K) values in float64, without the squash unless one is asked for."""
    basis = create_basis(name, **{"squash": None, **kwargs}).double()
    return basis(torch.from_numpy(x).unsqueeze(1)).squeeze(1).detach().numpy()


def check(got, expected):
    # Constants are kept in float32, which bounds the agreement.
    np.testing.assert_allclose(got, expected, atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("degree", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("grid_size", [3, 5, 30])
def test_bspline_uniform(degree, grid_size):
    step = 3 / grid_size
    knots = -1 + step * np.arange(-degree, grid_size + degree + 1)
    x = np.linspace(-0.999, 1.999, 70)
    expected = BSpline(knots, np.eye(grid_size + degree), degree)(x)
    got = values("bspline", x, degree=degree, grid_size=grid_size, grid_range=(-1.0, 2.0))
    np.testing.assert_allclose(got, expected, atol=3e-7 * grid_size)
    np.testing.assert_allclose(got.sum(1), 1, atol=1e-12)
    for evaluation in ("local", "matrix"):
        other = values(
            "bspline",
            x,
            degree=degree,
            grid_size=grid_size,
            grid_range=(-1.0, 2.0),
            evaluation=evaluation,
        )
        np.testing.assert_allclose(other, got, atol=1e-12)


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 5])
def test_bspline_non_uniform(degree):
    inner = np.array([-1.0, -0.5, -0.25, 0.25, 1.0])  # exact in float32
    knots = np.concatenate([np.full(degree, -1.0), inner, np.full(degree, 1.0)])
    expected = BSpline(knots, np.eye(len(knots) - degree - 1), degree)(X)
    got = values("bspline", degree=degree, knots=knots.tolist())
    np.testing.assert_allclose(got, expected, atol=1e-12)
    np.testing.assert_allclose(got.sum(1), 1, atol=1e-12)


def test_bspline_layout_of_the_published_grid():
    basis = create_basis("bspline", grid_size=5, degree=3)
    np.testing.assert_allclose(basis.knots, np.linspace(-2.2, 2.2, 12), atol=1e-6)
    assert basis.num_basis == 8
    assert values("bspline", np.array([-2.3, 2.3])).any() == False  # noqa: E712
    assert values("bspline", np.array([2.1])).sum() == pytest.approx(0.0026, abs=5e-5)


def test_rbf():
    centers = np.linspace(-2, 2, 8)
    check(values("rbf"), np.exp(-(((X[:, None] - centers) / (4 / 7)) ** 2)))
    check(
        values("rbf", num_centers=1, width=0.3, grid_range=(0.0, 1.0)),
        np.exp(-(((X[:, None] - 0.5) / 0.3) ** 2)),
    )


def test_rswaf():
    centers = np.linspace(-2, 2, 8)
    x = np.linspace(-6, 6, 121)
    check(values("rswaf", x), 1 / np.cosh((x[:, None] - centers) / 0.33) ** 2)
    spaced = values("rswaf", x, num_centers=5, grid_range=(0.0, 2.0), width=None)
    check(spaced, 1 / np.cosh((x[:, None] - np.linspace(0, 2, 5)) / 0.5) ** 2)


def lucas_sequences(x, n):
    """Fibonacci F_n and Lucas L_n by Binet's formulas."""
    root = np.sqrt(x**2 + 4)
    up, down = (x + root) / 2, (x - root) / 2
    return (up**n - down**n) / root, up**n + down**n


@pytest.mark.parametrize("degree", [0, 1, 3, 8])
@pytest.mark.parametrize(
    ("name", "kwargs", "oracle"),
    [
        (
            "chebyshev_u",
            {"normalize": False},
            lambda x, d: np.stack([special.eval_chebyu(n, x) for n in range(d + 1)], -1),
        ),
        (
            "fibonacci",
            {"normalize": False},
            lambda x, d: np.stack([lucas_sequences(x, n + 1)[0] for n in range(d + 1)], -1),
        ),
        (
            "lucas",
            {"normalize": False},
            lambda x, d: np.stack(
                [np.ones_like(x), *(lucas_sequences(x, n)[1] for n in range(1, d + 1))], -1
            ),
        ),
        ("chebyshev", {}, lambda x, d: chebyshev.chebvander(x, d)),
        ("legendre", {}, lambda x, d: legendre.legvander(x, d)),
        ("hermite", {"normalize": False}, lambda x, d: hermite.hermvander(x, d)),
        (
            "jacobi",
            {"alpha": 0.5, "beta": 2.0, "normalize": False},
            lambda x, d: np.stack([special.eval_jacobi(n, 0.5, 2.0, x) for n in range(d + 1)], -1),
        ),
        (
            "gegenbauer",
            {"alpha": 3.0, "normalize": False},
            lambda x, d: np.stack([special.eval_gegenbauer(n, 3.0, x) for n in range(d + 1)], -1),
        ),
    ],
)
def test_polynomials(name, kwargs, oracle, degree):
    check(values(name, degree=degree, **kwargs), oracle(X, degree))
    # The default maps the real line onto the domain first.
    wide = 4 * X
    check(values(name, wide, degree=degree, squash="tanh", **kwargs), oracle(np.tanh(wide), degree))


NORMALIZED = ["hermite", "gegenbauer", "jacobi", "chebyshev_u", "fibonacci", "lucas"]


@pytest.mark.parametrize("name", NORMALIZED)
def test_normalized_by_default(name):
    dense = np.linspace(-1, 1, 4001)
    scaled = values(name, dense, degree=6)
    peaks = np.abs(scaled).max(0)
    np.testing.assert_allclose(peaks, 1, atol=1e-5)
    raw = values(name, dense, degree=6, normalize=False)
    np.testing.assert_allclose(scaled, raw / np.abs(raw).max(0), atol=1e-5)


@pytest.mark.parametrize(("name", "peak"), [("chebyshev_u", 6), ("fibonacci", 8), ("lucas", 11)])
def test_unscaled_sequences_reach_the_documented_peaks(name, peak):
    assert values(name, np.ones(1), degree=5, normalize=False).max() == pytest.approx(peak)


def test_gram_starts_at_monomials_and_reaches_the_gram_polynomials():
    check(values("gram", degree=5, beta_std=0.0), X[:, None] ** np.arange(6))
    m, degree = 11, 6
    points = -1 + (2 * np.arange(m) + 1) / m
    got = values("gram", points, degree=degree, num_points=m, beta_mean=1.0, beta_std=0.0)
    # Orthogonalising the monomials over the points is the definition.
    expected = np.vander(points, degree + 1, increasing=True)
    for n in range(degree + 1):
        for lower in range(n):
            other = expected[:, lower]
            expected[:, n] -= other * (other @ expected[:, n]) / (other @ other)
    check(got, expected)


def test_gram_parity():
    basis = create_basis("gram", degree=4, parity=True, beta_std=0.1, squash=None)
    b2, b3, b4 = (basis.beta.detach()[1:-1].double().numpy() * np.array([2.25, 300 / 9, 2205 / 16])).tolist()
    p = [np.ones_like(X), X]
    for b in (b2, b3, b4):
        p.append(X * p[-1] - b * p[-2])
    np.testing.assert_allclose(
        basis.double()(torch.from_numpy(X)[:, None])[:, 0].detach(), np.stack(p, 1), atol=1e-4
    )


@pytest.mark.parametrize("degree", [0, 1, 3, 12])
def test_bernstein(degree):
    x = np.linspace(0, 1, 41)
    expected = np.stack([BPoly(np.eye(degree + 1)[j][:, None], [0, 1])(x) for j in range(degree + 1)], 1)
    got = values("bernstein", x, degree=degree)
    np.testing.assert_allclose(got, expected, atol=1e-13)
    np.testing.assert_allclose(got.sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(
        values("bernstein", 5 * X, degree=degree, squash="sigmoid"),
        values("bernstein", special.expit(5 * X), degree=degree),
        atol=1e-12,
    )
    single = create_basis("bernstein", degree=degree, squash=None)(torch.from_numpy(x).float()[:, None])
    np.testing.assert_allclose(single[:, 0], expected, atol=1e-6)


def test_fourier():
    x = np.linspace(-9, 9, 61)
    angles = x[:, None] * np.arange(1, 4)
    check(values("fourier", x, num_frequencies=3), np.concatenate([np.cos(angles), np.sin(angles)], 1))


def test_sine():
    x = np.linspace(-9, 9, 61)
    k = np.arange(5)
    check(values("sine", x, num_frequencies=5), np.sin(x[:, None] * (k + 1) / 6 + np.pi * k / 5))
    first = values("sine", x, num_frequencies=5, frequency_step=1.0)
    check(first, np.sin(x[:, None] * (k + 1) + np.pi * k / 5))


def test_sine_per_channel_and_shared():
    x = np.linspace(-3, 3, 21)
    for per_channel, rows in ((False, 1), (True, 2)):
        basis = create_basis("sine", num_frequencies=3, per_channel=per_channel, num_channels=2).double()
        assert basis.frequency.shape == (rows, 3)
        with torch.no_grad():
            basis.frequency.copy_(torch.tensor([[0.5, -1.0, 2.0], [0.1, 0.2, 0.3]])[:rows])
        got = basis(torch.from_numpy(x)[:, None].expand(-1, 2)).detach()
        frequencies = basis.frequency.detach().numpy()
        expected = np.sin(x[:, None, None] * frequencies + np.pi / 3 * np.arange(3))
        check(got, np.broadcast_to(expected, (21, 2, 3)))


def test_cauchy():
    x = np.linspace(-9, 9, 61)
    check(values("cauchy", x), np.stack([2 * x / (x**2 + 1), 1 / (x**2 + 1)], 1))
    d = np.array([0.5, 1.0, 2.0])
    quotient = x[:, None] ** 2 + d**2
    expected = np.concatenate([2 * d * x[:, None] / quotient, d**2 / quotient], 1)
    check(values("cauchy", x, num_poles=3), expected)
    # The published activation is a combination of the two functions.
    own = create_basis("cauchy", num_channels=2).double()
    with torch.no_grad():
        own.width.copy_(torch.tensor([[0.3], [-1.5]]))
    odd, even = own(torch.from_numpy(x)[:, None].expand(-1, 2)).detach().numpy()[:, 1].T
    activation = (0.7 * x - 0.2) / (x**2 + 1.5**2)
    check(0.7 / (2 * 1.5) * odd - 0.2 / 1.5**2 * even, activation)
    with torch.no_grad():
        own.width.zero_()
    points = torch.from_numpy(x)[:, None].expand(-1, 2).clone().requires_grad_()
    (slope,) = torch.autograd.grad(own(points).sum(), points)
    assert own(points).abs().max() <= 1
    assert slope.isfinite().all()


def test_rational():
    x = np.linspace(-30, 30, 121)
    powers = x[:, None] ** np.arange(5)
    check(values("rational", x), powers / (1 + x[:, None] ** 4))
    got = values("rational", x, numerator_degree=2, denominator_degree=3)
    check(got, powers[:, :3] / (1 + np.abs(x[:, None]) ** 3))
    assert np.abs(values("rational", np.linspace(-50, 50, 5001))).max() <= 1
    own = create_basis("rational", numerator_degree=4, denominator_degree=2, num_channels=2).double()
    with torch.no_grad():
        own.denominator.copy_(torch.tensor([[0.5, -2.0], [0.0, 0.25]]))
    got = own(torch.from_numpy(x)[:, None].expand(-1, 2)).detach().numpy()
    check(got[:, 0], powers / (1 + np.abs(0.5 * x - 2 * x**2))[:, None])
    check(got[:, 1], powers / (1 + 0.25 * x**2)[:, None])


def test_rational_stays_finite_with_any_denominator():
    x = torch.tensor([1e20, -1e20, float("inf"), -float("inf"), 1e4, 0.0]).unsqueeze(1).requires_grad_()
    for m, n, b in ((4, 4, 0.0), (4, 4, -1e3), (7, 2, 0.0), (9, 9, 1e-30)):
        basis = create_basis("rational", numerator_degree=m, denominator_degree=n, num_channels=1)
        with torch.no_grad():
            basis.denominator.fill_(b)
        out = basis(x)
        grads = torch.autograd.grad(out.sum(), [x, basis.denominator])
        assert all(tensor.isfinite().all() for tensor in (out, *grads))
    assert basis(torch.full((1, 1), float("nan"))).isnan().all()


def meyer(z):
    z = abs(z)
    if z >= 1:
        return 0.0
    t = 2 * z - 1
    window = 1.0 if z <= 0.5 else math.cos(math.pi / 2 * t**4 * (35 - 84 * t + 70 * t**2 - 20 * t**3))
    return math.sin(math.pi * z) * window


def shannon(z):
    window = 0.54 - 0.46 * math.cos(2 * math.pi * (z + 4 * math.pi) / (8 * math.pi))
    return np.sinc(z / math.pi) * window if abs(z) <= 4 * math.pi else 0.0


WAVELETS = {
    "mexican_hat": lambda z: 2 / (math.sqrt(3) * math.pi**0.25) * (z * z - 1) * math.exp(-z * z / 2),
    "morlet": lambda z: math.exp(-z * z / 2) * math.cos(5 * z),
    "dog": lambda z: -z * math.exp(-z * z / 2),
    "meyer": meyer,
    "shannon": shannon,
}


@pytest.mark.parametrize("kind", WAVELETS)
def test_wavelets(kind):
    x = np.linspace(-15, 15, 1201)
    check(values("wavelet", x, kind=kind)[:, 0], [WAVELETS[kind](z) for z in x])
    shifted = values("wavelet", x, kind=kind, num_wavelets=3)
    check(shifted, np.stack([[WAVELETS[kind](z - s) for z in x] for s in (-2, 0, 2)], 1))


@pytest.mark.parametrize("kind", WAVELETS)
def test_wavelets_per_channel(kind):
    basis = create_basis("wavelet", kind=kind, num_channels=3).double()
    with torch.no_grad():
        basis.shift.copy_(torch.tensor([[0.5], [0.0], [-1.0]]))
        basis.scale.copy_(torch.tensor([[2.0], [-0.5], [1.0]]))
    x = np.linspace(-3, 3, 21)
    got = basis(torch.from_numpy(x)[:, None].expand(-1, 3)).detach()[..., 0]
    expected = [[WAVELETS[kind]((z - s) / w) for s, w in ((0.5, 2.0), (0.0, 0.5), (-1.0, 1.0))] for z in x]
    np.testing.assert_allclose(got, expected, atol=2e-5)
    with torch.no_grad():
        basis.scale.zero_()
    assert basis(torch.from_numpy(x)[:, None].expand(-1, 3)).isfinite().all()


@pytest.mark.parametrize("kind", ["mexican_hat", "dog"])
def test_wavelets_have_zero_mean(kind):
    x = np.linspace(-12, 12, 4801)
    assert abs(values("wavelet", x, kind=kind).sum()) < 1e-9 * len(x)


def test_wavelet_supports():
    outside = np.array([-1.001, 1.001, 1.5, -7.0])
    assert not values("wavelet", outside, kind="meyer").any()
    assert not values("wavelet", np.array([12.6, -12.6, 50.0]), kind="shannon").any()
    # The Shannon window ends at a zero of the sine, so that the wavelet is continuous.
    assert abs(values("wavelet", np.array([4 * math.pi - 1e-6]), kind="shannon")).max() < 1e-6


def test_relu():
    grid_size, order = 5, 3
    j = np.arange(grid_size + order)
    start = (j - order) / grid_size
    end = start + (order + 1) / grid_size
    x = np.linspace(-1, 2, 91)
    bump = np.maximum(x[:, None] - start, 0) * np.maximum(end - x[:, None], 0)
    check(values("relu", x), (4 * grid_size**2 / (order + 1) ** 2 * bump) ** 2)
    check(values("relu", (start + end) / 2).diagonal(), np.ones(grid_size + order))
    own = create_basis("relu", num_channels=2).double()
    got = own(torch.from_numpy(x)[:, None].expand(-1, 2)).detach()
    check(got[:, 1], (4 * grid_size**2 / (order + 1) ** 2 * bump) ** 2)
    assert own.start.is_contiguous()
    assert own.start.untyped_storage().nbytes() == 2 * own.num_basis * 8
