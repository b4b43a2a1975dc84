"""What all KAN layers share: edge factors, the start of efficient-kan, and what is kept for backward."""

import copy

import pytest
import torch
from torch import nn

from kanvision.bases import BASES
from kanvision.expansion.define import evaluate
from kanvision.layers import KANConv1d, KANConv2d, KANConv3d, KANLinear, get_preset
from kanvision.layers.activation import ACTIVATIONS, create_activation, define_activation

CONVS = {1: KANConv1d, 2: KANConv2d, 3: KANConv3d}


def kept_for_backward(module, x):
    """Bytes of tensors kept, parameters and buffers left out, over the bytes of x."""
    own = {t.untyped_storage().data_ptr() for t in (*module.parameters(), *module.buffers())}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = module(x)
    return sum(kept.values()) / (x.numel() * x.element_size()), y


@pytest.mark.parametrize("ndim", [0, 1, 2, 3])
@pytest.mark.parametrize("basis", ["bspline", "gram"])
def test_edge_scale_is_one_more_factor_for_each_edge(ndim, basis):
    torch.manual_seed(0)
    options = {"basis": basis, "edge_scale": True}
    layer = KANLinear(4, 6, **options) if ndim == 0 else CONVS[ndim](4, 6, 3, padding=1, groups=2, **options)
    assert layer.edge_scale.shape == layer.base_weight.shape
    assert "edge_scale" in layer.kan_parameters
    with torch.no_grad():
        layer.edge_scale.uniform_(-1, 1)
    x = torch.randn(2, 4, *(5,) * ndim)
    folded = copy.deepcopy(layer)
    with torch.no_grad():
        folded.basis_weight.copy_(layer.edge_weight())
        folded.edge_scale.fill_(1.0)
    torch.testing.assert_close(folded(x), layer(x))
    by_hand = layer.basis_weight * layer.edge_scale.repeat_interleave(layer.basis.num_basis, dim=1)
    torch.testing.assert_close(layer.edge_weight(), by_hand)
    layer(x).square().sum().backward()
    assert layer.edge_scale.grad.ne(0).any()


def test_parameters_of_a_kernel_of_efficient_kan():
    """(G + k) basis weights, a base weight and a scale for each element: G + k + 2, by Bodner's own code."""
    conv = KANConv2d(5, 10, 3, basis="bspline", basis_kwargs={"grid_size": 10}, edge_scale=True)
    assert sum(p.numel() for p in conv.parameters()) == 5 * 10 * 9 * (10 + 3 + 2)


@pytest.mark.parametrize("make", [lambda **o: KANLinear(64, 128, **o), lambda **o: KANConv2d(8, 64, 3, **o)])
def test_the_start_of_efficient_kan(make):
    torch.manual_seed(0)
    layer = make(basis="bspline", edge_scale=True, init="efficient_kan")
    inputs = 64 if isinstance(layer, KANLinear) else 9
    for weight in (layer.base_weight, layer.edge_scale):
        assert weight.abs().max() <= inputs**-0.5
        assert weight.std().item() == pytest.approx((3 * inputs) ** -0.5, rel=0.05)
    # kan_family.md 1.3, measured on efficient-kan: about .009 for noise .1
    assert layer.basis_weight.std().item() == pytest.approx(0.009, rel=0.25)
    # The fitted curves are the noise at the grid points: within U(-1/2, 1/2) .1 / 5.
    points = torch.linspace(-1, 1, 6)
    weights = layer.basis_weight.unflatten(1, (-1, 8)).movedim(2, -1).reshape(-1, 8)
    curves = layer.basis(points[:, None])[:, 0] @ weights.T
    assert curves.abs().max() <= 0.5 * 0.1 / 5 + 1e-6
    assert curves.std().item() == pytest.approx(0.1 / 5 / 12**0.5, rel=0.1)
    louder = make(basis="bspline", edge_scale=True, init="efficient_kan", init_noise=1.0)
    assert louder.basis_weight.std() > 5 * layer.basis_weight.std()


@pytest.mark.parametrize("name", [n for n in BASES if n != "selectable"])
def test_efficient_start_is_finite_for_every_basis(name):
    layer = KANLinear(3, 2, basis=name, init="efficient_kan")
    assert all(p.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("basis", ["bspline", "gram", "rbf", "wavelet", "fourier", "relu"])
@pytest.mark.parametrize("ndim", [0, 1, 2, 3])
def test_training_keeps_the_input_only(ndim, basis):
    make = {"basis": basis}
    layer = KANLinear(8, 8, **make) if ndim == 0 else CONVS[ndim](8, 8, 3, padding=1, **make)
    x = torch.randn(4, 8, *(6,) * ndim, requires_grad=True)
    share, _ = kept_for_backward(layer, x)
    assert share <= 1.01


@pytest.mark.parametrize("name", ["kan", "fastkan", "kagn", "wavkan", "relukan", "kaln", "kajn"])
@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_a_published_layer_with_norm_and_activation_keeps_twice_its_input(name, norm):
    options = get_preset(name)
    for slot in ("norm", "input_norm"):
        if options.get(slot) in ("batch", "instance"):
            options[slot] = norm
    layer = KANConv2d(16, 16, 3, padding=1, checkpoint=True, **options)
    share, _ = kept_for_backward(layer, torch.randn(8, 16, 16, 16, requires_grad=True))
    # a norm in front of the basis keeps its output, and that over each sample two more tensors
    assert share <= (4.1 if name == "kaln" else 2.1)


@pytest.mark.parametrize("norm", ["batch", "instance", "group", "layer"])
@pytest.mark.parametrize("layer", ["kagn", "kan"])
def test_recomputation_changes_neither_gradients_nor_running_statistics(layer, norm):
    results = []
    for checkpoint in (True, False):
        torch.manual_seed(0)
        conv = KANConv2d(4, 6, 3, padding=1, **get_preset(layer, norm=norm, checkpoint=checkpoint)).double()
        x = torch.randn(3, 4, 5, 5, dtype=torch.double, requires_grad=True)
        for _ in range(2):
            conv(x).square().sum().backward()
        results.append([x.grad, *(p.grad for p in conv.parameters()), *conv.buffers()])
    for lean, kept in zip(*results, strict=True):
        torch.testing.assert_close(lean, kept)


def test_evaluation_and_shared_statistics_are_left_alone():
    conv = KANConv2d(4, 4, 1, **get_preset("kagn", norm="batch"))
    x = torch.randn(2, 4, 3, 3, requires_grad=True)
    conv(x).sum().backward()
    assert conv.norm.num_batches_tracked.item() == 1
    assert conv.norm.momentum == 0.1
    synced = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(conv)).eval()
    torch.testing.assert_close(synced(x), conv.eval()(x))
    assert kept_for_backward(conv, x)[0] > 2.1  # evaluation with gradients keeps what it computes


def test_double_backward_through_a_layer_in_training():
    torch.manual_seed(0)
    layer = KANLinear(2, 2, basis="bspline").double()
    x = torch.randn(3, 2, dtype=torch.double, requires_grad=True)
    (grad,) = torch.autograd.grad(layer(x).sum(), x, create_graph=True)
    grad.square().sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_definitions_of_activations(name):
    """A name that finds another function, or a usual one that has no loop."""
    activation = create_activation(name)
    definition = define_activation(activation)
    if name in ("identity", "prelu"):
        assert definition is None
        return
    x = torch.linspace(-6, 6, 101, dtype=torch.float64)
    torch.testing.assert_close(evaluate(definition, x, (), 1, 0)[:, 0], activation(x.clone()))
    assert definition.has_trace == (
        name in ("gelu", "quick_gelu", "relu", "sigmoid", "silu", "swish", "tanh")
    )
