"""Adapters: nothing changes at the start, what is frozen stays, merging is exact."""

import copy
import io
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kanvision.layers import (
    BottleneckKANConv2d,
    KANConv1d,
    KANConv2d,
    KANConv3d,
    KANFocalModulation2d,
    KANLinear,
    KANSelfAttention2d,
    MoEBottleneckKANConv2d,
    MoEKANConv2d,
    add_adapters,
    merge_adapters,
    preset,
)
from kanvision.layers.adapters import AdaptedKANConv2d

LAYERS = {"linear": KANLinear, "1d": KANConv1d, "2d": KANConv2d, "3d": KANConv3d}
CONVS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
# The setups that were compared on HAM10000, on layers of degree 5.
SETUPS = list(itertools.product([0, 1, 2], [(), (5,), (4, 5), (2,), (3,)], [False, True]))
POLYNOMIALS = {
    "gram": {"degree": 5, "beta_std": 0.5},
    "chebyshev": {"degree": 5},
    "legendre": {"degree": 5},
    "jacobi": {"degree": 5, "alpha": 0.5},
}
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def make(kind="2d", basis="gram", groups=1, parity=False, **options):
    torch.manual_seed(0)
    kwargs = dict(POLYNOMIALS.get(basis, {}))
    if parity:  # large constants: a small beta, as published
        kwargs.update(parity=True, beta_std=0.01)
    options = {"basis_kwargs": kwargs, "basis_act": "silu", "dtype": torch.float64, **options}
    if kind == "linear":
        return KANLinear(4, 6, basis, **options)
    return LAYERS[kind](4, 6, 3, padding=1, groups=groups, basis=basis, **options)


def inputs(kind):
    torch.manual_seed(1)
    return torch.randn(2, 4, *[4] * (0 if kind == "linear" else int(kind[0])), dtype=torch.float64)


def train(model, x, steps=2):
    """Large steps, so that nothing is near its start."""
    torch.manual_seed(2)
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        return
    optimizer = torch.optim.Adam(parameters, lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        y = model(x)
        (y * torch.randn_like(y)).sum().backward()
        for name, parameter in model.named_parameters():
            assert (parameter.grad is not None) is parameter.requires_grad, name
        optimizer.step()


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


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("parity", [False, True])
@pytest.mark.parametrize(("extra", "degrees", "base"), SETUPS)
def test_every_published_setup_of_gram_layers(kind, parity, extra, degrees, base):
    for groups in [1] if kind == "linear" else [1, 2]:
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


@pytest.mark.parametrize("basis", ["chebyshev", "legendre", "jacobi"])
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("extra", [0, 1, 2])
@pytest.mark.parametrize("degrees", [(), (0, 5)])
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


@pytest.mark.parametrize("basis", ["bspline", "rbf", "fourier", "wavelet", "relu", "bernstein", "gram"])
@pytest.mark.parametrize("kind", ["linear", "2d"])
@pytest.mark.parametrize(
    "kwargs", [{"adapter_rank": 2}, {"adapter_rank": 1, "base_rank": 2}, {"degrees": (0,)}]
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
        {"norm": "batch", "act": "silu", "drop_rate": 0.3, "drop_kind": "noise", "drop_place": "input"},
        {"drop_rate": 0.3, "drop_place": "basis", "bias": True, "input_norm": "layer", "norm": "layer"},
        {"edge_scale": True, "pad_space": "input", "norm": "group", "act": "prelu"},
        {"padding_mode": "reflect", "stride": 2, "dilation": 1, "base_act": None},
    ],
)
def test_everything_around_the_weights_is_that_of_the_plain_layer(options):
    layer = make("2d", **options)
    x, before = inputs("2d"), copy.deepcopy(layer)
    # With more maps to drop, a dropout of maps would draw other numbers.
    extra = 0 if options.get("drop_place") == "basis" else 1
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
    layer = KANConv2d(8, 8, 3, padding=1, **preset("kagn", norm="batch"))
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


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = KANConv2d(3, 4, 3, padding=1, **preset("kagn", norm="batch"))
        self.body = KANConv2d(4, 6, 3, groups=2, **preset("kagn", norm="batch", bias=True))
        self.fc = nn.Linear(6, 5)

    def forward(self, x):
        return self.fc(self.body(self.stem(x)).mean((2, 3)))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def images():
    torch.manual_seed(1)
    return torch.randn(2, 3, 6, 6)


def trainable(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_only_the_promised_parameters_are_trained(net, images):
    outside = {"fc.weight", "fc.bias"}
    norms = {f"{layer}.norm.{name}" for layer in ("stem", "body") for name in ("weight", "bias")}
    assert trainable(add_adapters(copy.deepcopy(net))) == outside | norms
    assert trainable(add_adapters(copy.deepcopy(net), train_norms=False)) == outside
    base = {"stem.base_weight", "body.base_weight"}
    assert trainable(add_adapters(copy.deepcopy(net), train_base=True)) == outside | norms | base
    add_adapters(net, extra_degrees=1, match="^body$")
    stem = {name for name, _ in net.named_parameters() if name.startswith("stem")}
    body = {"body.adapter.extra", "body.basis.beta_delta", "body.norm.weight", "body.norm.bias"}
    assert trainable(net) == outside | stem | body
    train(net, images)


def test_what_was_frozen_before_is_frozen_after(net):
    net.stem.base_weight.requires_grad_(False)
    net.stem.basis.beta.requires_grad_(False)
    before = trainable(net)
    merge_adapters(add_adapters(net, extra_degrees=1, degrees=(2,), adapter_rank=1))
    assert trainable(net) == before


def test_copies_and_state_dictionaries(net, images):
    options = {"extra_degrees": 1, "degrees": (2, 3), "adapter_rank": 2}
    released = net.state_dict()
    add_adapters(net, **options)
    for name, value in released.items():
        if not name.endswith("recurrence") and not name.endswith("beta"):
            assert torch.equal(net.state_dict()[name], value), name
    train(net, images)
    net.eval()
    want = net(images)
    twin = copy.deepcopy(net)
    fresh = add_adapters(Net(), **options).eval()
    fresh.load_state_dict(net.state_dict())
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    for model in (twin, fresh, torch.load(file, weights_only=False)):
        assert torch.equal(model(images), want)
        assert isinstance(model.body, AdaptedKANConv2d)
        assert trainable(model) == trainable(net)
        merge_adapters(model)
        torch.testing.assert_close(model(images), want)
    assert torch.equal(net(images), want)  # merging a copy leaves the original alone
    assert "rank=2" in repr(net)


def test_compiles_and_exports(net, images):
    torch._dynamo.reset()
    add_adapters(net, extra_degrees=1, degrees=(2,), adapter_rank=1, base_rank=1)
    train(net, images)
    net.eval()
    want = net(images)
    torch.testing.assert_close(torch.compile(net, backend="eager", fullgraph=True)(images), want)
    torch.testing.assert_close(torch.export.export(net, (images,)).module()(images), want)


def test_reset_takes_back_what_was_learned(net, images):
    net.eval()
    want = net(images)
    add_adapters(net, extra_degrees=1, degrees=(2,), adapter_rank=1, train_norms=False)
    net.fc.requires_grad_(False)
    train(net, images)
    assert not torch.allclose(net(images), want)
    net.stem.reset_parameters()
    net.body.reset_parameters()
    torch.testing.assert_close(net(images), want)


COMPOSITES = {
    "bottleneck": lambda: BottleneckKANConv2d(4, 4, 3, padding=1, **preset("kagn")),
    "mixture": lambda: MoEKANConv2d(4, 4, 3, padding=1, num_experts=3, base_act=None, basis="gram"),
    "joint": lambda: MoEKANConv2d(
        4, 4, 3, padding=1, num_experts=3, base_act=None, basis="gram", evaluation="joint"
    ),
    "bottleneck_mixture": lambda: MoEBottleneckKANConv2d(4, 4, 3, padding=1, basis="gram", num_experts=3),
    "attention": lambda: KANSelfAttention2d(4, basis="gram"),
    "focal": lambda: KANFocalModulation2d(4, **preset("kagn")),
}


@pytest.mark.parametrize("name", COMPOSITES)
def test_layers_made_of_kan_layers(name):
    torch.manual_seed(0)
    layer = COMPOSITES[name]().double().eval()
    x = inputs("2d")
    want = layer(x)
    add_adapters(layer, extra_degrees=1, degrees=(2,), adapter_rank=1)
    torch.testing.assert_close(layer(x), want, **EXACT)
    layer.train()
    train(layer, x)
    layer.eval()
    trained = layer(x)
    assert not torch.allclose(trained, want)
    if name == "bottleneck":
        with pytest.raises(ValueError, match="this layer has adapters"):
            layer.merge()
    torch.testing.assert_close(merge_adapters(layer)(x), trained, **EXACT)
    if name == "bottleneck":
        torch.testing.assert_close(layer.merge()(x), trained, **EXACT)


def test_a_shared_basis_stays_what_it_is_for_others():
    first = make("2d", parity=True)
    second = KANConv2d(4, 6, 3, padding=1, basis=first.basis, dtype=torch.float64)
    x = inputs("2d")
    want = second(x)
    add_adapters(first, degrees=(2, 3))
    train(first, x)
    torch.testing.assert_close(second(x), want, **EXACT)
    add_adapters(second, degrees=(4,))
    torch.testing.assert_close(second(x), want, **EXACT)


@pytest.mark.parametrize("degree", [0, 1])
@pytest.mark.parametrize("extra", [1, 2, 3])
@pytest.mark.parametrize("parity", [False, True])
def test_low_degrees_without_a_beta(degree, extra, parity):
    layer = make("2d", basis_kwargs={"degree": degree, "parity": parity})
    x = inputs("2d")
    want = layer(x)
    add_adapters(layer, extra_degrees=extra)
    torch.testing.assert_close(layer(x), want, **EXACT)
    train(layer, x)
    trained = layer(x)
    torch.testing.assert_close(merge_adapters(layer)(x), trained, **EXACT)


def test_half_precision_and_meta():
    layer = KANConv2d(4, 6, 3, **preset("kagn"), dtype=torch.bfloat16)
    add_adapters(layer, extra_degrees=1, degrees=(2,), adapter_rank=1)
    assert {parameter.dtype for parameter in layer.parameters()} == {torch.bfloat16}
    assert layer(torch.randn(1, 4, 5, 5, dtype=torch.bfloat16)).dtype == torch.bfloat16
    layer = add_adapters(KANConv2d(4, 6, 3, **preset("kagn"), device="meta"), extra_degrees=1, degrees=(2,))
    assert layer(torch.randn(1, 4, 5, 5, device="meta")).shape == (1, 6, 3, 3)
    # O C taps (T + E) weights, the factors of the steps of degree 2 and 4, and a norm
    assert sum(p.numel() for p in layer.parameters() if p.requires_grad) == 6 * 4 * 9 * 2 + 2 + 2 * 6


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"extra_degrees": -1}, "extra_degrees=-1 must be at least 0"),
        ({"adapter_rank": -1}, "adapter_rank=-1"),
        ({"base_rank": -2}, "base_rank=-2"),
        ({"degrees": (2, 2)}, r"degrees=\(2, 2\) names a degree twice"),
        ({"degrees": (4,)}, r"degrees=\(4,\): layer 'stem' has the basis functions 0 to 3"),
        ({"degrees": (-1,)}, r"degrees=\(-1,\).*0 to 3"),
        ({"adapter_rank": 5}, "adapter_rank=5: the weights of layer 'stem' have a rank of at most 4"),
        ({"base_rank": 5}, "base_rank=5: the weights of layer 'stem' have a rank of at most 4"),
        ({"base_rank": 1, "train_base": True}, "base_rank=1 adapts frozen base weights"),
        ({"match": "head"}, "match='head' is in no name of a KAN layer; these are: stem, body"),
        ({"match": "("}, r"match='\(' is not a regular expression"),
        ({"extra_degrees": 29}, r"num_points=32 must be above the degree 3 \+ 29 extra ones"),
    ],
)
def test_messages(net, images, kwargs, message):
    net.eval()
    want = net(images)
    with pytest.raises(ValueError, match=message):
        add_adapters(net, **kwargs)
    assert torch.equal(net(images), want)
    assert trainable(net) == {name for name, _ in net.named_parameters()}


def test_what_cannot_be_adapted_is_refused(net):
    with pytest.raises(ValueError, match="Linear has no adapters to merge"):
        merge_adapters(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="match=None is in no name of a KAN layer; these are: none"):
        add_adapters(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="the basis of the layer, BSplineBasis, is no family"):
        add_adapters(make("2d", "bspline"), extra_degrees=1)
    with pytest.raises(ValueError, match="none of these layers has a base branch"):
        add_adapters(make("2d", base_act=None), train_base=True)

    class Own(KANConv2d):
        pass

    with pytest.raises(ValueError, match="the layer is a Own; adapters fit KANLinear, KANConv1d"):
        add_adapters(Own(2, 2, 3))


def test_a_second_wrapping_is_refused(net, images):
    add_adapters(net, degrees=(3,), match="stem")
    train(net, images)
    net.eval()
    want = net(images)
    with pytest.raises(ValueError, match="layer 'stem' has adapters already; call merge_adapters"):
        add_adapters(net, extra_degrees=1)
    assert type(net.body) is KANConv2d  # nothing was begun
    add_adapters(net, extra_degrees=1, match="body")
    torch.testing.assert_close(net(images), want)
    add_adapters(merge_adapters(net), extra_degrees=1)
    torch.testing.assert_close(net(images), want)
    assert net.body.basis.degree == 5
