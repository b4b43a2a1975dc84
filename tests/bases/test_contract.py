"""What every basis promises, over the whole registry."""

import copy

import pytest
import torch

from kanvision.bases import BASES, Basis, create_basis
from tests.covering import one_of_each

# Every class, with and without own parameters per channel, and the corners of its arguments.
CASES = {
    **{name: (name, {}) for name in BASES},
    "bspline_linear": ("bspline", {"degree": 1}),
    "bspline_fine": ("bspline", {"grid_size": 16}),
    "bspline_knots": ("bspline", {"degree": 2, "knots": (-2.0, -1.5, -1.0, 0.0, 0.3, 1.0, 2.0)}),
    **{f"bspline_{e}": ("bspline", {"evaluation": e}) for e in ("local", "matrix", "cox_de_boor")},
    "gram_parity": ("gram", {"degree": 4, "parity": True}),
    "gram_line": ("gram", {"degree": 1}),
    "chebyshev_constant": ("chebyshev", {"degree": 0}),
    "bernstein_constant": ("bernstein", {"degree": 0}),
    "gegenbauer_raw": ("gegenbauer", {"normalize": False}),
    "rbf_clamp": ("rbf", {"squash": "clamp"}),
    "bspline_sigmoid": ("bspline", {"squash": "sigmoid", "grid_range": (-3.0, 2.0)}),
    **{
        f"wavelet_{k}": ("wavelet", {"kind": k, "num_wavelets": 3})
        for k in ("morlet", "dog", "meyer", "shannon")
    },
    "wavelet_own": ("wavelet", {"num_channels": 4, "num_wavelets": 2}),
    "relu_own": ("relu", {"num_channels": 4}),
    "rswaf_spaced": ("rswaf", {"num_centers": 3, "width": None}),
    **{f"{name}_raw": (name, {"normalize": False}) for name in ("chebyshev_u", "fibonacci", "lucas")},
    "lucas_constant": ("lucas", {"degree": 0}),
    "sine_own": ("sine", {"num_channels": 4, "per_channel": True, "num_frequencies": 3}),
    "sine_shared": ("sine", {"num_channels": 4, "frequency_step": 1.0, "num_frequencies": 1}),
    "cauchy_own": ("cauchy", {"num_channels": 4, "num_poles": 3}),
    "selectable_own": ("selectable", {"num_channels": 4, "pool": ["wavelet", "gram"], "squash": "tanh"}),
    "rational_own": ("rational", {"num_channels": 4}),
    "rational_odd": ("rational", {"num_channels": 4, "numerator_degree": 0, "denominator_degree": 3}),
    "rational_growing": ("rational", {"numerator_degree": 5, "denominator_degree": 3}),
}
EACH = one_of_each(CASES, lambda case: BASES[CASES[case][0]].__module__)
"""All cases; those after the first of each file, which share their code, are slow."""
UNDEFINED_AT_INFINITY = {"fourier", "sine"}


def make(case) -> Basis:
    torch.manual_seed(0)
    name, kwargs = CASES[case]
    return create_basis(name, **kwargs)


@pytest.fixture(params=CASES)
def basis(request):
    return make(request.param)


def test_shape_at_every_channel_dim(basis):
    x = torch.randn(2, 4, 3)
    by_last = basis(x.movedim(1, -1))  # (2, 3, 4, K)
    assert by_last.shape == (2, 3, 4, basis.num_basis)
    torch.testing.assert_close(basis(x, channel_dim=1), by_last.permute(0, 2, 3, 1))
    torch.testing.assert_close(basis(x, channel_dim=-2), basis(x, channel_dim=1))
    torch.testing.assert_close(basis(x.movedim(1, 0), channel_dim=0), by_last.permute(2, 3, 0, 1))
    assert basis(torch.randn(0, 4)).shape == (0, 4, basis.num_basis)
    assert basis(torch.randn(4)).shape == (4, basis.num_basis)


def test_constant_first_function(basis):
    x = torch.randn(5, 4)
    if basis.has_constant:
        full = basis(x)
        assert full[..., 0].eq(1).all()
        torch.testing.assert_close(basis(x, constant=False), full[..., 1:])
    else:
        with pytest.raises(NotImplementedError):
            basis(x, constant=False)


def test_gradients(basis):
    basis = basis.double()
    x = torch.randn(1, 4, 2, dtype=torch.float64, requires_grad=True)
    parameters = tuple(basis.parameters())
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(0.1 * torch.rand_like(parameter))

    def function(x, *_):
        return basis(x, 1)

    assert torch.autograd.gradcheck(function, (x, *parameters), fast_mode=True)
    assert torch.autograd.gradgradcheck(function, (x, *parameters), fast_mode=True)
    names = [name for name, _ in basis.named_parameters()]
    bases = {prefix: part for prefix, part in basis.named_modules() if isinstance(part, Basis)}
    assert names == [
        f"{prefix}.{n}".lstrip(".") for prefix, part in bases.items() for n in part.kan_parameters
    ]
    assert basis.no_weight_decay() == set(names)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_values_are_computed_in_float32(basis, dtype):
    x = torch.randn(6, 4).to(dtype)
    expected = basis(x.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(basis(x.float()), expected, rtol=0, atol=0)
    half = copy.deepcopy(basis).to(dtype)
    for name, buffer in basis.named_buffers():
        assert half.get_buffer(name).dtype == buffer.dtype != dtype
        assert torch.equal(half.get_buffer(name), buffer)
    assert all(parameter.dtype == dtype for parameter in half.parameters())
    got = half(x)
    assert got.dtype == dtype
    if not basis.kan_parameters:
        assert torch.equal(got, expected.to(dtype))
    with pytest.raises(ValueError, match="floating-point"):
        basis(torch.ones(2, 4, dtype=torch.long))


class MatrixBasis(Basis):
    """Four functions by a matrix product, which autocast would round."""

    name = "matrix"

    def __init__(self) -> None:
        super().__init__(num_basis=4, domain=None)

    def expand(self, x: torch.Tensor, dim: int) -> torch.Tensor:
        return (x.unsqueeze(-1) @ torch.linspace(0.1, 0.7, 4)[None]).movedim(-1, dim)


def test_autocast_reaches_no_basis():
    x = torch.randn(6, 3)
    basis = MatrixBasis()
    expected = basis(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(basis(x), expected)


@pytest.mark.parametrize("case", CASES)
def test_constants_are_exact_where_the_default_is_a_half_type(case):
    expected = dict(make(case).named_buffers())
    torch.set_default_dtype(torch.bfloat16)
    try:
        basis = make(case)
    finally:
        torch.set_default_dtype(torch.float32)
    for name, buffer in basis.named_buffers():
        torch.testing.assert_close(buffer, expected[name], rtol=0, atol=0)


def test_state_dict_carries_everything(basis):
    x = torch.randn(5, 4)
    other = copy.deepcopy(basis)
    with torch.no_grad():
        for tensor in other.state_dict().values():
            tensor.fill_(float("nan"))
    other.load_state_dict(basis.state_dict(), strict=True)
    assert torch.equal(other(x), basis(x))
    assert set(dict(basis.named_buffers())) <= set(basis.state_dict())


@pytest.mark.parametrize("case", CASES)
def test_extreme_inputs(case):
    basis = make(case)
    x = torch.tensor([1e4, -1e4, 0.0, 30.0, -30.0, 1.0, -1.0, float("inf"), -float("inf")])
    x = (
        x[:7]
        if CASES[case][0] in UNDEFINED_AT_INFINITY or (basis.squash is None and basis.has_constant)
        else x
    )
    x = x.unsqueeze(1).repeat(1, 4).requires_grad_()
    values = basis(x)
    assert values.isfinite().all()
    values.sum().backward()
    assert x.grad.isfinite().all()
    undefined = basis(torch.full((1, 4), float("nan")))
    # Everything but a constant passes NaN on, or a broken network would look healthy.
    constant = int(basis.has_constant or CASES[case][1].get("degree") == 0)
    assert undefined[..., constant:].isnan().flatten().any() or basis.num_basis == constant


def test_keeps_its_input_and_no_values_for_the_backward_pass(basis):
    x = torch.randn(1000, 4, requires_grad=True)
    kept: dict[int, torch.Tensor] = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.setdefault(t.untyped_storage().data_ptr(), t), lambda t: t
    ):
        basis(x)
    # The input before and behind the squash; constants and parameters are small.
    assert sum(tensor.numel() for tensor in kept.values()) <= 2 * x.numel() + 200


def test_samples_do_not_see_each_other(basis):
    x = torch.randn(4, 4, 3)
    torch.testing.assert_close(basis(x, 1)[2:], basis(x[2:], 1), rtol=0, atol=0)


@pytest.mark.parametrize("case", EACH)
def test_compiles_whole(case):
    torch._dynamo.reset()
    basis = make(case)
    x = torch.randn(3, 4, requires_grad=True)
    compiled = torch.compile(basis, backend="eager", fullgraph=True)
    got = compiled(x)
    torch.testing.assert_close(got, basis(x))
    (grad,) = torch.autograd.grad(got.square().sum(), x)
    torch.testing.assert_close(grad, torch.autograd.grad(basis(x).square().sum(), x)[0])


@pytest.mark.parametrize("case", EACH)
def test_exports(case):
    basis = make(case)
    x = torch.randn(3, 4)
    program = torch.export.export(basis, (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    more = torch.randn(7, 4)
    torch.testing.assert_close(program.module()(more), basis(more))


@pytest.mark.parametrize("case", CASES)
def test_meta_device(case):
    x = torch.randn(2, 4, 3)
    with torch.device("meta"):
        basis = make(case)
    assert basis(x.to("meta"), 1).shape == (2, 4, basis.num_basis, 3)
    assert basis.second_moment().shape == (basis.num_basis,)
    basis.to_empty(device="cpu")
    torch.manual_seed(0)
    basis.reset_parameters()
    expected = make(case)
    torch.manual_seed(0)
    expected.reset_parameters()
    torch.testing.assert_close(basis(x, 1), expected(x, 1))


def test_second_moment_is_that_of_normal_inputs(basis):
    torch.manual_seed(0)
    sample = basis(torch.randn(100_000, 4)).square()
    spread = sample.std(dim=(0, 1)) / sample.shape[0] ** 0.5
    moment = basis.second_moment()
    assert moment.shape == (basis.num_basis,)
    assert ((moment - sample.mean(dim=(0, 1))).abs() <= 5 * spread + 0.02 * moment + 1e-6).all()
    doubled = basis.second_moment(lambda values: 2 * values)
    torch.testing.assert_close(doubled, 4 * moment)


def test_second_moment_is_averaged_over_channels_of_their_own():
    basis = create_basis("wavelet", num_channels=2)
    with torch.no_grad():
        basis.scale.copy_(torch.tensor([[1.0], [3.0]]))
    singles = []
    for scale in basis.scale.detach():
        single = create_basis("wavelet")
        single.scale.copy_(scale[None])
        singles.append(single.second_moment())
    assert (singles[0] - singles[1]).abs() > 0.1
    torch.testing.assert_close(basis.second_moment(), (singles[0] + singles[1]) / 2)


def test_messages():
    with pytest.raises(ValueError, match=r"basis='spline'.*bspline.*wavelet"):
        create_basis("spline")
    with pytest.raises(ValueError, match=r"'rbf' has no argument degree; legal arguments: num_centers"):
        create_basis("rbf", degree=3)
    with pytest.raises(ValueError, match="built already"):
        create_basis(create_basis("rbf"), num_centers=3)
    with pytest.raises(ValueError, match=r"squash='relu'.*tanh, sigmoid, clamp"):
        create_basis("rbf", squash="relu")
    with pytest.raises(ValueError, match="needs a domain"):
        create_basis("fourier", squash="clamp")
    with pytest.raises(ValueError, match=r"num_channels=4.*3 channels"):
        create_basis("relu", num_channels=4)(torch.randn(2, 3))
    with pytest.raises(ValueError, match="channel_dim=2"):
        create_basis("rbf")(torch.randn(2, 3), 2)


@pytest.mark.parametrize(
    ("name", "kwargs", "key"),
    [
        ("bspline", {"degree": -1}, "degree=-1"),
        ("bspline", {"grid_size": 0}, "grid_size=0"),
        ("bspline", {"grid_range": (1, -1)}, "grid_range"),
        ("bspline", {"knots": (0, 1, 2)}, "knots"),
        ("bspline", {"degree": 0, "knots": (0, 2, 1)}, "knots"),
        ("bspline", {"evaluation": "fast"}, "evaluation='fast' is not known; legal values: auto, folded"),
        ("bspline", {"evaluation": "folded", "degree": 1}, "evaluation='folded' needs degree >= 2"),
        ("bspline", {"evaluation": "matrix", "knots": range(8)}, "evaluation='matrix' needs uniform knots"),
        ("rbf", {"num_centers": 1}, "num_centers=1"),
        ("rbf", {"width": 0.0}, "width"),
        ("legendre", {"degree": -1}, "degree=-1"),
        ("jacobi", {"alpha": -1.0}, "alpha"),
        ("gegenbauer", {"alpha": 0.0}, "alpha"),
        ("gram", {"num_points": 3}, "num_points=3"),
        ("gram", {"beta_std": -1.0}, "beta_std"),
        ("bernstein", {"degree": -1}, "degree=-1"),
        ("fourier", {"num_frequencies": 0}, "num_frequencies=0"),
        ("wavelet", {"kind": "haar"}, "kind='haar'"),
        ("wavelet", {"num_wavelets": 0}, "num_wavelets=0"),
        ("rswaf", {"width": -0.1}, "width"),
        *[(name, {"degree": -1}, "degree=-1") for name in ("chebyshev_u", "fibonacci", "lucas")],
        ("sine", {"num_frequencies": 0}, "num_frequencies=0"),
        ("sine", {"frequency_step": 0.0}, "frequency_step"),
        ("cauchy", {"num_poles": 0}, "num_poles=0"),
        ("rational", {"numerator_degree": -1}, "numerator_degree=-1"),
        ("rational", {"denominator_degree": 0}, "denominator_degree=0"),
        ("relu", {"grid_size": 0}, "grid_size=0"),
        ("relu", {"num_channels": 0}, "num_channels=0"),
    ],
)
def test_illegal_arguments(name, kwargs, key):
    with pytest.raises(ValueError, match=key):
        create_basis(name, **kwargs)


def test_squash_formulas():
    x = torch.linspace(-6, 6, 41)
    for squash, expected in {
        "tanh": -0.5 + 2.5 * torch.tanh(x),
        "sigmoid": -3 + 5 / (1 + torch.exp(-x)),
        "clamp": x.clamp(-3, 2),
    }.items():
        # Two hats over one cell: the second is the place in it.
        basis = create_basis("bspline", grid_size=1, degree=1, grid_range=(-3.0, 2.0), squash=squash)
        position = basis(x[:, None])[:, 0, 1]
        torch.testing.assert_close(-3 + 5 * position, expected, atol=1e-5, rtol=0)


def test_squash_maps_onto_the_domain():
    x = torch.linspace(-50, 50, 101).unsqueeze(1)
    for squash in ("tanh", "sigmoid", "clamp"):
        basis = create_basis("bspline", grid_range=(-3.0, 2.0), squash=squash)
        # On the domain, and only there, B-splines sum to 1.
        torch.testing.assert_close(basis(x).sum(-1), torch.ones(101, 1))


def test_gram_has_no_idle_parameters():
    assert not list(create_basis("gram", degree=0).parameters())
    assert not list(create_basis("gram", degree=1).parameters())
    basis = create_basis("gram", degree=4)
    basis(torch.randn(5, 3)).square().sum().backward()
    assert basis.beta.shape == (3,)
    assert basis.beta.grad.ne(0).all()
