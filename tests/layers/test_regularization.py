"""Penalties: values by hand, gradients that arrive, and independence of the batch."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from kanvision.layers import (
    BottleneckKANConv2d,
    EdgeWaveletConv2d,
    KANConv2d,
    KANLinear,
    MoEKANConv2d,
    add_adapters,
    collect_auxiliary,
)
from kanvision.layers.regularization import (
    KANPenalty,
    entropy,
    group_lasso,
    smoothness,
    weight_l1,
    weight_l2,
)

TERMS = {f.__name__: f for f in (weight_l1, weight_l2, entropy, group_lasso, smoothness)}


@pytest.fixture
def small():
    """One output, two inputs, three functions; the edges have mean sizes 2 and 6."""
    layer = KANLinear(2, 1, "chebyshev", basis_kwargs={"degree": 2}, dtype=torch.float64)
    with torch.no_grad():
        layer.basis_weight.copy_(torch.tensor([[1.0, -2.0, 3.0, 0.0, 9.0, -9.0]]))
        layer.base_weight.copy_(torch.tensor([[0.5, -4.0]]))
    return nn.Sequential(layer, nn.Linear(1, 1))


def test_values_by_hand(small):
    p, q = 2 / 8, 6 / 8
    expected = {
        "weight_l1": 1 + 2 + 3 + 9 + 9 + 0.5 + 4,
        "weight_l2": 1 + 4 + 9 + 81 + 81 + 0.25 + 16,
        "entropy": -(p * math.log(p) + q * math.log(q)),
        "group_lasso": math.sqrt(14) + math.sqrt(162),
        "smoothness": (1 + 4 + 3) ** 2 + (0 - 18 - 9) ** 2,
    }
    for name, value in expected.items():
        assert TERMS[name](small).item() == pytest.approx(value), name
        assert KANPenalty(small, **{name: 0.5})().item() == pytest.approx(0.5 * value), name
    both = KANPenalty(small, weight_l1=2.0, entropy=3.0)()
    assert both.item() == pytest.approx(2 * expected["weight_l1"] + 3 * expected["entropy"])
    assert KANPenalty(small)().item() == 0.0


def test_values_of_a_convolution_are_sums_over_taps():
    torch.manual_seed(0)
    conv = KANConv2d(4, 6, 3, groups=2, basis="rbf", edge_scale=True, dtype=torch.float64)
    with torch.no_grad():
        conv.edge_scale.uniform_(-2, 2)
    by_edge = [  # one list of K coefficients for each edge
        (conv.edge_scale[o, c, i, j] * conv.basis_weight[o, 8 * c : 8 * c + 8, i, j]).tolist()
        for o in range(6)
        for c in range(2)
        for i in range(3)
        for j in range(3)
    ]
    sizes = [sum(abs(w) for w in edge) / 8 for edge in by_edge]
    shares = [size / sum(sizes) for size in sizes]
    assert entropy(conv).item() == pytest.approx(-sum(p * math.log(p) for p in shares))
    assert group_lasso(conv).item() == pytest.approx(sum(math.hypot(*edge) for edge in by_edge))
    bends = [(e[j + 1] - 2 * e[j] + e[j - 1]) ** 2 for e in by_edge for j in range(1, 7)]
    assert smoothness(conv).item() == pytest.approx(sum(bends))
    base = conv.base_weight.abs().sum().item()
    assert weight_l1(conv).item() == pytest.approx(base + sum(abs(w) for edge in by_edge for w in edge))


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_exact_zeros_are_harmless(name, dtype):
    layer = KANLinear(3, 2, "bspline", dtype=dtype)
    for scope in (layer.basis_weight[:, :8], layer.basis_weight):  # one edge, then the whole layer
        with torch.no_grad():
            scope.zero_()
        layer.zero_grad()
        value = TERMS[name](layer)
        value.backward()
        assert value.isfinite()
        assert layer.basis_weight.grad.isfinite().all()
    if name in ("entropy", "group_lasso", "smoothness"):
        assert value == 0


@pytest.mark.parametrize("name", TERMS)
def test_gradients(name):
    torch.manual_seed(0)
    layer = KANLinear(3, 2, "rbf", dtype=torch.float64)
    names = ["basis_weight", "base_weight"] if name.startswith("weight") else ["basis_weight"]

    def run(*values):
        twin = copy.copy(layer)
        twin._parameters = {**layer._parameters, **dict(zip(names, values, strict=True))}
        return TERMS[name](twin)

    values = [layer.get_parameter(name).detach().clone().requires_grad_() for name in names]
    assert torch.autograd.gradcheck(run, values)


@pytest.mark.parametrize("name", TERMS)
def test_training_with_a_penalty_differs_and_shrinks_it(name):
    """The published L1 penalty changes nothing at all."""
    torch.manual_seed(0)
    model = nn.Sequential(KANConv2d(2, 4, 3), nn.Flatten(), nn.Linear(64, 3))
    x, target = torch.randn(8, 2, 6, 6), torch.randint(3, (8,))
    results = {}
    for coefficient in (0.0, 0.01):
        twin = copy.deepcopy(model)
        penalty = KANPenalty(twin, **{name: coefficient})
        optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
        for _ in range(10):
            optimizer.zero_grad()
            (F.cross_entropy(twin(x), target) + penalty()).backward()
            optimizer.step()
        results[coefficient] = TERMS[name](twin).item()
    assert results[0.01] < results[0.0]
    assert results[0.01] < TERMS[name](model).item()


def activations(model, x, **coefficients):
    penalty = KANPenalty(model, **coefficients)
    with collect_auxiliary() as losses:
        model(x)
    penalty.remove()
    return losses


def test_activation_penalties_are_means_over_the_samples():
    torch.manual_seed(0)
    model = nn.Sequential(KANConv2d(2, 3, 3), nn.ReLU(), KANConv2d(3, 4, 3), nn.Flatten(), KANLinear(16, 2))
    x = torch.randn(4, 2, 6, 6)
    outputs = [model[:end](x) for end in (1, 3, 5)]
    losses = activations(model, x, activation_l1=0.5, activation_l2=3.0)
    expected = [0.5 * y.abs().mean() + 3 * y.square().mean() for y in outputs]
    torch.testing.assert_close(torch.stack(losses), torch.stack(expected))
    again = activations(model, torch.cat([x, x, x]), activation_l1=0.5, activation_l2=3.0)
    torch.testing.assert_close(torch.stack(again), torch.stack(losses))
    one_by_one = torch.stack([torch.stack(activations(model, s[None], activation_l1=1.0)) for s in x]).mean(0)
    torch.testing.assert_close(torch.stack(activations(model, x, activation_l1=1.0)), one_by_one)
    sum(losses).backward()
    assert all(p.grad is not None for p in model[0].parameters())


def test_nothing_is_hooked_without_a_coefficient_and_nothing_happens_in_evaluation():
    model = nn.Sequential(KANConv2d(2, 3, 3), KANConv2d(3, 4, 3))
    x = torch.randn(2, 2, 6, 6)
    KANPenalty(model, weight_l1=1.0)
    assert not any(module._forward_hooks for module in model.modules())
    penalty = KANPenalty(model, activation_l1=1.0)
    assert sum(len(module._forward_hooks) for module in model.modules()) == 2
    with collect_auxiliary() as losses:
        with torch.no_grad():
            model(x)
        model.eval()(x)
    assert losses == []
    model.train()(x)  # nobody collects
    penalty.remove()
    assert not any(module._forward_hooks for module in model.modules())


def test_composite_layers_count_once():
    torch.manual_seed(0)
    bottleneck = BottleneckKANConv2d(4, 4, 3, basis="gram", norm="batch")
    mixture = MoEKANConv2d(4, 4, 3, basis="gram", base_act=None, num_experts=3)
    wavelet = EdgeWaveletConv2d(4, 4, 1)
    model = nn.Sequential(bottleneck, mixture, wavelet)
    with collect_auxiliary() as balance:
        model(torch.randn(2, 4, 7, 7))
    losses = activations(model, torch.randn(2, 4, 7, 7), activation_l2=1.0)
    assert len(losses) == len(balance) + 3
    weights = [bottleneck.squeeze.weight, bottleneck.expand.weight, bottleneck.base_weight]
    weights += [bottleneck.inner.basis_weight, *(expert.basis_weight for expert in mixture.experts)]
    weights += [wavelet.basis_weight, wavelet.base_weight]
    torch.testing.assert_close(weight_l1(model), sum(w.abs().sum() for w in weights))


def test_adapters_are_part_of_the_weights():
    layer = KANConv2d(2, 3, 3, basis="gram")
    before = weight_l1(layer)
    add_adapters(layer, extra_degrees=1, adapter_rank=1, base_rank=1)
    torch.testing.assert_close(weight_l1(layer), before)
    with torch.no_grad():
        layer.adapter.extra.fill_(0.5)
    torch.testing.assert_close(weight_l1(layer), before + 0.5 * layer.adapter.extra.numel())
    KANPenalty(layer, weight_l1=1.0, group_lasso=1.0)().backward()
    assert layer.adapter.extra.grad.ne(0).all()
    assert layer.basis_weight.grad is None


@pytest.mark.parametrize("how", ["plain", "recomputed", "compiled"])
def test_recomputing_and_compiling_count_once(how):
    torch.manual_seed(0)
    torch._dynamo.reset()
    model = nn.Sequential(KANConv2d(2, 3, 3, norm="batch", act="silu"), KANConv2d(3, 4, 3))
    KANPenalty(model, activation_l1=1.0, activation_l2=0.5)
    x = torch.randn(2, 2, 6, 6)
    reference = copy.deepcopy(model)
    gradients = []
    for net, mode in ((reference, "plain"), (model, how)):
        run = net
        if mode == "recomputed":
            run = lambda x, net=net: checkpoint(net, x, use_reentrant=False)  # noqa: E731
        elif mode == "compiled":
            run = torch.compile(net, backend="eager", fullgraph=True)
        with collect_auxiliary() as losses:
            y = run(x)
        assert len(losses) == 2
        (y.square().mean() + sum(losses)).backward()
        assert len(losses) == 2
        gradients.append([parameter.grad for parameter in net.parameters()])
    for want, got in zip(*gradients, strict=True):
        torch.testing.assert_close(got, want)


def test_half_precision_is_summed_in_single():
    layer = KANLinear(64, 64, "bspline", dtype=torch.bfloat16)
    with torch.no_grad():
        layer.basis_weight.fill_(0.5)
        layer.base_weight.fill_(0.0)
    assert weight_l1(layer).dtype == torch.float32
    assert weight_l1(layer).item() == 0.5 * 64 * 64 * 8  # bfloat16 would lose the last digits


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"weight_l1": -1.0}, "weight_l1=-1.0 must be a number of at least 0"),
        ({"entropy": math.nan}, "entropy=nan"),
        ({"activation_l2": math.inf}, "activation_l2=inf"),
    ],
)
def test_messages(kwargs, message):
    with pytest.raises(ValueError, match=message):
        KANPenalty(KANLinear(2, 2), **kwargs)


def test_a_model_without_kan_layers_is_refused():
    KANPenalty(nn.Linear(2, 2))
    for key in ("weight_l2", "activation_l1"):
        with pytest.raises(ValueError, match=f"{key}=0.1: Linear has no KAN layers; legal: 0"):
            KANPenalty(nn.Linear(2, 2), **{key: 0.1})
