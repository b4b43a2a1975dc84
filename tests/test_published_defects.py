"""Defects of published code that must not exist here: one test for each, which fails on that code.

Sources: the repositories of Drokin 2024 (arXiv 2407.01092), Bodner et al. 2024 (arXiv 2406.13155), MatrixKAN,
S-KAN (arXiv 2408.08338), efficient-kan, FastKAN, ReLU-KAN and Wav-KAN. Defects of one part of the package
stand with the tests of that part: grid updates in tests/layers/test_grid.py, penalties in
tests/layers/test_regularization.py, merging of adapters in tests/layers/test_peft.py, experts, attention and
focal
modulation beside their layers, weights in tests/checkpoints.
"""

import copy
import gc
import weakref

import numpy as np
import pytest
import torch
from torch import nn

import kanvision as kv
from kanvision.bases import BASES, create_basis
from kanvision.layers import PRESETS, KANConv1d, KANConv2d, KANLinear, get_preset

POLYNOMIALS = [name for name, cls in BASES.items() if getattr(cls, "has_constant", False)]


@pytest.mark.parametrize("name", PRESETS)
def test_no_cache_keeps_activations_or_modules_alive(name):
    """lru_cache on methods that take tensors kept the last 128 inputs, their graphs and the modules."""
    conv = KANConv2d(3, 3, 3, padding=1, **get_preset(name))
    x = torch.randn(2, 3, 6, 6, requires_grad=True)
    conv(x).sum().backward()
    watched = [weakref.ref(x), weakref.ref(conv)]
    del x, conv
    gc.collect()
    assert [ref() for ref in watched] == [None, None]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_saturated_chebyshev_has_finite_gradients(dtype):
    """cos(n arccos(tanh x)): infinite slope at 1, which tanh reaches at x = 5 in half precision."""
    x = torch.tensor([[-20.0], [-5.0], [5.0], [9.0], [20.0]], dtype=dtype, requires_grad=True)
    values = create_basis("chebyshev", degree=5)(x)
    values.float().sum().backward()
    assert values.isfinite().all()
    assert x.grad.isfinite().all()


def test_chebyshev_in_the_middle_has_the_right_slope():
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None].requires_grad_()
    (grad,) = torch.autograd.grad(create_basis("chebyshev", degree=4)(x)[..., 4].sum(), x)
    z = np.tanh(x.detach().numpy())
    slope = np.polynomial.chebyshev.Chebyshev([0, 0, 0, 0, 1]).deriv()(z) * (1 - z**2)
    np.testing.assert_allclose(grad.numpy(), slope, atol=1e-12)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("make", [KANConv2d, KANLinear])
def test_a_prediction_does_not_depend_on_batch_mates(name, make):
    """KALN took the extremes of the whole batch: a sample moved by .1 with its neighbors."""
    linear = make is KANLinear
    torch.manual_seed(0)
    options = get_preset(name, linear=linear)
    layer = (KANLinear(4, 5, **options) if linear else KANConv2d(4, 5, 3, padding=1, **options)).eval()
    x = torch.randn(3, 4) if linear else torch.randn(3, 4, 5, 5)
    louder = torch.cat([x[:1], 100 * x[1:]])
    torch.testing.assert_close(layer(louder)[:1], layer(x)[:1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["kaln", "fastkan", "kagn"])
def test_exports_as_a_function_of_each_sample(name):
    """KALN could not be exported for any number of samples: its scale was that of the whole batch."""
    layer = KANConv2d(2, 3, 3, padding=1, **get_preset(name)).eval()
    sizes = ({0: torch.export.Dim("batch", min=2)},)
    program = torch.export.export(layer, (torch.randn(2, 2, 5, 5),), dynamic_shapes=sizes).module()
    x = torch.randn(5, 2, 5, 5)
    torch.testing.assert_close(program(x), layer(x), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(program(x)[:2], program(x[:2]), atol=1e-5, rtol=1e-4)


def test_min_max_of_a_constant_sample_is_finite():
    layer = KANConv2d(2, 3, 1, **get_preset("kaln"))
    x = torch.ones(2, 2, 3, 3, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()


def test_bernstein_polynomials_are_not_the_constant_one_and_let_gradients_through():
    """de Casteljau ran on coefficients that were all 1, and its in-place steps broke the backward pass."""
    net = nn.Sequential(KANConv2d(2, 3, 1, **get_preset("kabn")), KANConv2d(3, 2, 1, **get_preset("kabn")))
    net(torch.randn(2, 2, 4, 4)).square().sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    values = create_basis("bernstein")(torch.randn(50, 1))
    assert (values.std(0) > 0.01).all()


def test_relu_kan_can_be_optimized_and_loaded():
    """Starts and ends were expanded, of stride 0: neither a step nor load_state_dict could write them."""
    conv = KANConv2d(3, 2, 1, **get_preset("relukan"))
    optimizer = torch.optim.AdamW(conv.parameters(), lr=0.1)
    conv(torch.rand(2, 3, 4, 4)).square().sum().backward()
    optimizer.step()
    fresh = KANConv2d(3, 2, 1, **get_preset("relukan"))
    fresh.load_state_dict(conv.state_dict())
    assert all(0 not in p.stride() for p in conv.parameters())
    assert conv.basis.start.std(0).gt(0).any()  # channels learn their own


def test_relu_kan_keeps_channels_and_functions_apart():
    """A reshape mixed the axes of channels and functions (relu_kan issues 1 and 2)."""
    basis = create_basis("relu")
    x = torch.rand(4, 3)
    alone = torch.stack([basis(x[:, c : c + 1])[:, 0] for c in range(3)], 1)
    torch.testing.assert_close(basis(x), alone)


@pytest.mark.parametrize("name", ["kagn", "kacn", "kan"])
def test_every_output_of_a_depthwise_layer_sees_its_own_channel_and_no_other(name):
    """Degree-major maps cut into groups: a quarter of the outputs of KAGN v2 saw constants only."""
    conv = KANConv2d(8, 8, 3, padding=1, groups=8, **get_preset(name, norm=None)).double()
    x = torch.randn(1, 8, 5, 5, dtype=torch.double, requires_grad=True)
    for channel in range(8):
        (grad,) = torch.autograd.grad(conv(x)[:, channel].square().sum(), x)
        seen = grad.flatten(2).abs().amax(2)[0] > 0
        assert seen.tolist() == [c == channel for c in range(8)]


def test_gram_polynomials_are_orthogonal_over_their_points():
    """The published factor multiplies by 4 n^2 - 1 where it must divide: C_7 is 1366 in place of .25."""
    basis = create_basis("gram", degree=5, num_points=20, beta_mean=1.0, beta_std=0.0, squash=None).double()
    points = (2 * torch.arange(20, dtype=torch.double) + 1) / 20 - 1
    values = basis(points[:, None])[:, 0]
    products = values.T @ values
    torch.testing.assert_close(products, torch.diag(products.diagonal()), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", BASES)
def test_both_branches_start_with_equal_shares(name):
    """An extra axis made Kaiming's rule count outputs as inputs: the basis began sqrt(O) too small."""
    torch.manual_seed(0)
    x = torch.randn(4, 32, 16, 16)
    conv = KANConv2d(32, 32, 1, basis=name)
    base, basis = conv._base_branch(x), conv._basis_branch(x)
    assert 0.4 < (basis.square().mean() / base.square().mean()).sqrt() < 2.5


@pytest.mark.parametrize(
    "name", [n for n in POLYNOMIALS if "degree" in create_basis(n).__init__.__code__.co_varnames]
)
@pytest.mark.parametrize("degree", [0, 1])
def test_degrees_zero_and_one_work_and_leave_no_idle_parameter(name, degree):
    """Degree 0 crashed in every polynomial layer; at degree 1 beta had no gradient, which stops DDP."""
    conv = KANConv2d(3, 4, 3, padding=1, basis=name, basis_kwargs={"degree": degree})
    conv(torch.randn(2, 3, 5, 5)).square().sum().backward()
    assert [key for key, p in conv.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", BASES)
def test_grids_are_buffers_and_follow_the_module(name):
    """FastKAN counted its grid as a parameter; KAN held it outside the state: bfloat16 modules failed."""
    basis = create_basis(name)
    constants = [t for t in vars(basis).values() if isinstance(t, torch.Tensor)]
    assert constants == []  # what does not move with the module
    assert not any("center" in key or "knot" in key for key, _ in basis.named_parameters())
    conv = KANConv2d(2, 3, 3, padding=1, basis=name).to(torch.bfloat16)
    assert conv(torch.randn(1, 2, 4, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("norm", ["batch", "instance", "layer", "group"])
def test_a_map_of_one_pixel_can_be_trained(norm):
    """InstanceNorm raises on 1x1 maps in training: VGG and ResKANet at 32 pixels."""
    conv = KANConv2d(4, 4, 3, padding=1, **get_preset("kagn", norm=norm))
    y = conv(torch.randn(2, 4, 1, 1))
    y.square().sum().backward()
    assert y.isfinite().all()


@pytest.mark.parametrize("kernel", [(3, 5), (1, 3)])
@pytest.mark.parametrize("name", PRESETS)
def test_kernels_need_not_be_square(name, kernel):
    """Layers with raw poly_weights took integers only."""
    conv = KANConv2d(2, 4, kernel, padding=tuple(k // 2 for k in kernel), stride=(1, 2), **get_preset(name))
    assert conv(torch.randn(1, 2, 6, 6)).shape == (1, 4, 6, 3)


def test_larger_start_gains_give_larger_weights():
    """efficient-kan hands its scales to Kaiming's `a`, so that a larger scale starts with smaller weights."""
    stds = []
    for noise in (0.05, 0.1, 0.2):
        torch.manual_seed(0)
        stds.append(KANLinear(64, 64, init="efficient_kan", init_noise=noise).basis_weight.std().item())
    assert stds[1] / stds[0] == pytest.approx(2.0)
    assert stds[2] / stds[1] == pytest.approx(2.0)


def test_shannon_bounds_its_argument_not_the_channels():
    """The Hamming window lay over the axis of the input channels."""
    basis = create_basis("wavelet", kind="shannon")
    x = torch.randn(5, 1)
    torch.testing.assert_close(basis(x.expand(-1, 7))[:, 3], basis(x)[:, 0])


def test_radial_layer_on_one_feature_still_sees_it():
    """A LayerNorm over one feature is 0 for every input (fast-kan issue 7): another norm can be told."""
    torch.manual_seed(0)
    layer = KANLinear(1, 4, **get_preset("fastkan", linear=True, input_norm=None))
    assert layer(torch.linspace(-2, 2, 5)[:, None]).std(0).gt(0).all()


def test_channels_are_summed_not_multiplied():
    """The first Convolutional KAN applied each kernel to each channel: channels multiplied by n_convs."""
    conv = KANConv2d(5, 7, 3, basis="bspline", edge_scale=True)
    x = torch.randn(2, 5, 8, 8)
    assert conv(x).shape == (2, 7, 6, 6)
    parts = sum(_only_channel(conv, c)(x) for c in range(5))
    torch.testing.assert_close(conv(x), parts, atol=1e-5, rtol=1e-5)


def _only_channel(conv, channel):
    part = copy.deepcopy(conv)
    num_basis = conv.basis.num_basis
    with torch.no_grad():
        for other in set(range(conv.in_channels)) - {channel}:
            part.base_weight[:, other] = 0
            part.basis_weight[:, other * num_basis : (other + 1) * num_basis] = 0
    return part


def test_border_is_what_pad_space_says():
    """Zeros before the basis count phi(0) at the border, zeros behind it count 0: one is chosen."""
    torch.manual_seed(0)
    x = torch.randn(1, 2, 5, 5)
    by_basis = KANConv2d(2, 3, 3, padding=1, basis="rbf")
    by_input = copy.deepcopy(by_basis)
    by_input.pad_space = "input"
    unpadded = copy.deepcopy(by_basis)
    unpadded.padding = ((0, 0), (0, 0))
    inside = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(by_basis(x)[inside], by_input(x)[inside])
    torch.testing.assert_close(by_input(x), unpadded(nn.functional.pad(x, (1, 1, 1, 1))))
    assert not torch.allclose(by_basis(x), by_input(x))


def test_layers_run_where_their_input_is():
    """Hard-coded "cuda": here the meta device, which no code path can have planned for."""
    for name in PRESETS:
        with torch.device("meta"):
            conv = KANConv1d(4, 4, 3, padding=1, **get_preset(name))
        assert conv(torch.empty(2, 4, 9, device="meta")).is_meta


def test_what_is_named_is_what_is_built():
    """AutoKAN compared quoted names: densekagnet161 built a KACN-121; keys of models were ignored."""
    with pytest.raises(ValueError, match="densekagnet161"):
        kv.create_model("densekagnet161")
    with pytest.raises(TypeError, match="spline_degree"):
        kv.create_model("convkan_4", spline_degree=3)
    with pytest.raises(TypeError, match="spline_order"):
        KANConv2d(3, 3, 3, spline_order=3)
