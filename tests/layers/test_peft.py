"""Fine-tuning of models: which layers, which parameters, copies, files, refusals."""

import copy
import io

import pytest
import torch
from torch import nn

from kanvision.layers import (
    BottleneckKANConv2d,
    KANConv2d,
    KANFocalModulation2d,
    KANSelfAttention2d,
    MoEBottleneckKANConv2d,
    MoEKANConv2d,
    add_adapters,
    get_preset,
    merge_adapters,
)
from kanvision.layers.adapters import AdaptedKANConv2d

from .small_layers import EXACT, inputs, make, train


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = KANConv2d(3, 4, 3, padding=1, **get_preset("kagn", norm="batch"))
        self.body = KANConv2d(4, 6, 3, groups=2, **get_preset("kagn", norm="batch", bias=True))
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
    "bottleneck": lambda: BottleneckKANConv2d(4, 4, 3, padding=1, **get_preset("kagn")),
    "mixture": lambda: MoEKANConv2d(4, 4, 3, padding=1, num_experts=3, base_act=None, basis="gram"),
    "joint": lambda: MoEKANConv2d(
        4, 4, 3, padding=1, num_experts=3, base_act=None, basis="gram", evaluation="joint"
    ),
    "bottleneck_mixture": lambda: MoEBottleneckKANConv2d(4, 4, 3, padding=1, basis="gram", num_experts=3),
    "attention": lambda: KANSelfAttention2d(4, basis="gram"),
    "focal": lambda: KANFocalModulation2d(4, **get_preset("kagn")),
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
    layer = KANConv2d(4, 6, 3, **get_preset("kagn"), dtype=torch.bfloat16)
    add_adapters(layer, extra_degrees=1, degrees=(2,), adapter_rank=1)
    assert {parameter.dtype for parameter in layer.parameters()} == {torch.bfloat16}
    assert layer(torch.randn(1, 4, 5, 5, dtype=torch.bfloat16)).dtype == torch.bfloat16
    layer = add_adapters(
        KANConv2d(4, 6, 3, **get_preset("kagn"), device="meta"), extra_degrees=1, degrees=(2,)
    )
    assert layer(torch.randn(1, 4, 5, 5, device="meta")).shape == (1, 6, 3, 3)
    # O C taps (T + E) weights, the factors of the steps of degree 2 and 4, and a norm
    assert sum(p.numel() for p in layer.parameters() if p.requires_grad) == 6 * 4 * 9 * 2 + 2 + 2 * 6


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"extra_degrees": -1}, "extra_degrees=-1 must be at least 0"),
        ({"adapter_rank": -1}, "adapter_rank=-1"),
        ({"base_rank": -2}, "base_rank=-2"),
        ({"degrees": (2, 2)}, r"degrees=\(2, 2\) contains a degree twice"),
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
