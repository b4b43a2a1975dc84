"""Adapted layers: nothing changes at the start, what is frozen stays, merging is exact."""

import copy

import pytest
import torch
import torch.nn.functional as F

from kanvision.layers import KANConv2d, add_adapters, get_preset, merge_adapters
from tests.covering import pairwise

from .small_layers import EXACT, LAYERS, POLYNOMIALS, SETUPS, inputs, make, train

CONVS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def published_forward(layer, x, extra, degrees):
    """The sum of separate convolutions, with the recurrence written out."""
    adapter, degree = layer.adapter, 5
    released = layer.basis.beta.detach()
    z = x.tanh()
    maps = [torch.ones_like(z), z]
    for i in range(2, degree + extra + 1):
        n = i - 1
        if layer.basis.parity:
            constant = (2 * i - 1) * n**2 * (4 * n**2 - 1) / i**2
            beta = released[n] if n < degree else 0.0
        else:
            constant = n**2 * (32**2 - n**2) / (32**2 * (4 * n**2 - 1))
            beta = released[n - 1] if n < degree else 0.0
        if i <= degree:  # the released constants are kept in float32
            constant = torch.tensor(constant).double()
        if i in degrees or i > degree:
            owners = sorted({d for d in degrees if d >= 2} | set(range(degree + 1, degree + extra + 1)))
            beta = beta + layer.basis.beta_delta[owners.index(i)]
        maps.append(z * maps[-1] - beta * constant * maps[-2])
    maps = F.silu(torch.stack(maps, 2))  # (B, C, K + E, *S)

    def apply(u, weight):
        if x.ndim == 2:
            return F.linear(u, weight)
        return CONVS[x.ndim - 2](u, weight, padding=1, groups=layer.groups)

    y = apply(maps[:, :, : degree + 1].flatten(1, 2), layer.basis_weight)
    if degrees:
        y = y + apply(maps[:, :, list(degrees)].flatten(1, 2), adapter.delta.flatten(1, 2))
    if extra:
        y = y + apply(maps[:, :, degree + 1 :].flatten(1, 2), adapter.extra.flatten(1, 2))
    return y + apply(F.silu(x), layer.base_weight)


@pytest.mark.parametrize(
    ("kind", "parity", "setup"), pairwise(LAYERS, [False, True], SETUPS), ids=lambda value: str(value)
)
def test_every_published_setup_of_gram_layers(kind, parity, setup):
    extra, degrees, base = setup
    # In two dimensions with and without groups, in others one of the two for each kind of constants.
    for groups in {"linear": [1], "2d": [1, 2]}.get(kind, [2 if parity else 1]):
        layer = make(kind, groups=groups, parity=parity)
        x, before = inputs(kind), copy.deepcopy(layer)
        weights = dict(before.named_parameters())
        assert add_adapters(layer, extra_degrees=extra, degrees=degrees, train_base=base) is layer
        torch.testing.assert_close(layer(x), before(x), **EXACT)
        train(layer, x)
        frozen = {"basis_weight"} if base else {"basis_weight", "base_weight"}
        for name in frozen:
            assert torch.equal(layer.get_parameter(name), weights[name])
        if base:
            assert not torch.equal(layer.base_weight, weights["base_weight"])
        trained = layer(x)
        assert torch.allclose(trained, before(x)) is (not (extra or degrees or base))
        torch.testing.assert_close(trained, published_forward(layer, x, extra, degrees), **EXACT)

        assert merge_adapters(layer) is layer
        assert type(layer) is LAYERS[kind]
        torch.testing.assert_close(layer(x), trained, **EXACT)
        assert all(parameter.requires_grad for parameter in layer.parameters())
        plain = make(kind, groups=groups, basis_kwargs={"degree": 5 + extra, "parity": parity})
        plain.load_state_dict(layer.state_dict())
        torch.testing.assert_close(plain(x), trained, **EXACT)
        train(layer, x, steps=1)  # and every parameter has a gradient again


@pytest.mark.parametrize(
    ("basis", "kind", "extra", "degrees"),
    pairwise(["chebyshev", "legendre", "jacobi"], LAYERS, [0, 1, 2], [(), (0, 5)]),
)
def test_other_polynomials(basis, kind, extra, degrees):
    layer = make(kind, basis, groups=1 if kind == "linear" else 2)
    x, before = inputs(kind), copy.deepcopy(layer)
    add_adapters(layer, extra_degrees=extra, degrees=degrees, train_base=True)
    torch.testing.assert_close(layer(x), before(x), **EXACT)
    train(layer, x)
    trained = layer(x)
    change = layer.edge_weight().detach().clone().unflatten(1, (-1, 6 + extra))
    change[:, :, :6] -= before.basis_weight.detach().unflatten(1, (-1, 6))
    moved = change.transpose(0, 2).flatten(1).ne(0).any(1).nonzero().flatten().tolist()
    assert moved == sorted({*degrees, *range(6, 6 + extra)})
    merge_adapters(layer)
    torch.testing.assert_close(layer(x), trained, **EXACT)
    plain = make(kind, basis, layer.groups, basis_kwargs={**POLYNOMIALS[basis], "degree": 5 + extra})
    plain.load_state_dict(layer.state_dict())
    torch.testing.assert_close(plain(x), trained, **EXACT)


@pytest.mark.parametrize(
    ("basis", "kind", "kwargs"),
    pairwise(
        ["bspline", "rbf", "fourier", "wavelet", "relu", "bernstein", "gram"],
        ["linear", "2d"],
        [{"adapter_rank": 2}, {"adapter_rank": 1, "base_rank": 2}, {"degrees": (0,)}],
    ),
)
def test_low_rank_and_chosen_functions_of_any_basis(basis, kind, kwargs):
    layer = make(kind, basis, basis_act=None)
    x, before = inputs(kind), copy.deepcopy(layer)
    add_adapters(layer, **kwargs)
    assert torch.equal(layer(x), before(x))
    train(layer, x)
    trained = layer(x)
    assert not torch.allclose(trained, before(x))
    merge_adapters(layer)
    torch.testing.assert_close(layer(x), trained, **EXACT)
    for name, rank in (("basis_weight", "adapter_rank"), ("base_weight", "base_rank")):
        change = (layer.get_parameter(name) - before.get_parameter(name)).flatten(1)
        if "degrees" not in kwargs:
            assert torch.linalg.matrix_rank(change, atol=1e-9) == kwargs.get(rank, 0)
    for name, parameter in before.named_parameters():
        if name not in ("basis_weight", "base_weight"):
            assert torch.equal(layer.get_parameter(name), parameter), name


@pytest.mark.parametrize(
    "options",
    [
        {"norm": "batch", "act": "silu", "drop_rate": 0.3, "drop_kind": "noise", "drop_position": "input"},
        {"drop_rate": 0.3, "drop_position": "basis", "bias": True, "input_norm": "layer", "norm": "layer"},
        {"edge_scale": True, "pad_space": "input", "norm": "group", "act": "prelu"},
        {"padding_mode": "reflect", "stride": 2, "dilation": 1, "base_act": None},
    ],
)
def test_everything_around_the_weights_is_that_of_the_plain_layer(options):
    layer = make("2d", **options)
    x, before = inputs("2d"), copy.deepcopy(layer)
    # With more maps to drop, a dropout of maps would draw other numbers.
    extra = 0 if options.get("drop_position") == "basis" else 1
    add_adapters(layer, extra_degrees=extra, degrees=(3,), adapter_rank=1)
    for mode in (True, False):
        layer.train(mode)
        before.train(mode)
        torch.manual_seed(3)
        want = before(x)
        torch.manual_seed(3)
        torch.testing.assert_close(layer(x), want, **EXACT)
    layer.train()
    train(layer, x)
    layer.eval()
    trained = layer(x)
    merge_adapters(layer)
    torch.testing.assert_close(layer(x), trained, **EXACT)


def test_single_precision_merges_to_one_millionth():
    torch.manual_seed(0)
    layer = KANConv2d(8, 8, 3, padding=1, **get_preset("kagn", norm="batch"))
    x = torch.randn(2, 8, 6, 6)
    add_adapters(layer, extra_degrees=2, degrees=(2, 3), adapter_rank=2)
    train(layer, x)
    layer.eval()
    trained = layer(x)
    torch.testing.assert_close(merge_adapters(layer)(x), trained, rtol=1e-6, atol=1e-6)


def test_recomputing_and_keeping_have_the_same_gradients():
    gradients = []
    for checkpoint in (False, True):
        layer = make("2d", checkpoint=checkpoint, norm="batch", act="silu")
        add_adapters(layer, extra_degrees=2, degrees=(2, 5), adapter_rank=1, base_rank=1)
        x = inputs("2d").requires_grad_()
        train(layer, x, steps=1)
        layer(x).square().sum().backward()
        gradients.append([x.grad, *(p.grad for p in layer.parameters() if p.requires_grad)])
    for kept, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(kept, recomputed, **EXACT)


def test_gradients():
    layer = make("1d", groups=2)
    add_adapters(layer, extra_degrees=2, degrees=(2,), adapter_rank=1, base_rank=1)
    train(layer, inputs("1d"), steps=1)
    names = [name for name, parameter in layer.named_parameters() if parameter.requires_grad]
    adapter = ("delta", "extra", "down", "up", "base_down", "base_up")
    assert set(names) == {"basis.beta_delta", *(f"adapter.{name}" for name in adapter)}
    x = inputs("1d").requires_grad_()

    def run(x, *values):
        # Not functional_call: the second pass of a recomputed layer would see other parameters.
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    layer.checkpoint = False
    values = [layer.get_parameter(name).detach().clone().requires_grad_() for name in names]
    assert torch.autograd.gradcheck(run, (x, *values))
