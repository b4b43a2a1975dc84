"""Bottleneck layers: the written-out formula, sizes, the exact merge, places of dropout, start values."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from kanvision.bases import BASES
from kanvision.layers import (
    BottleneckKANConv1d,
    BottleneckKANConv2d,
    BottleneckKANConv3d,
    BottleneckKANLinear,
    MoEBottleneckKANConv2d,
    get_preset,
)
from kanvision.layers.bottleneck import inner_channels
from tests.covering import cover, pairwise

CONVS = {1: BottleneckKANConv1d, 2: BottleneckKANConv2d, 3: BottleneckKANConv3d}
PLAIN = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def double(cls, *args, **kwargs):
    torch.manual_seed(0)
    return cls(*args, **kwargs, dtype=torch.float64)


def count(layer):
    return sum(parameter.numel() for parameter in layer.parameters())


class Convolutions(TorchDispatchMode):
    """Counts them."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten.convolution.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("basis", "ndim"), cover(BASES, [1, 2, 3]))
def test_is_the_written_formula(basis, ndim):
    layer = double(
        CONVS[ndim],
        8,
        12,
        3,
        2,
        1,
        groups=2,
        basis=basis,
        min_internal=3,
        basis_act="silu",
        norm="layer",
        act="gelu",
    )
    x = torch.randn(2, 8, *[5, 4, 3][:ndim], dtype=torch.float64, requires_grad=True)
    conv = PLAIN[ndim]
    z = conv(x, layer.squeeze.weight, groups=2)
    assert z.shape[1] == 6
    maps = F.silu(layer.inner.basis(z, 1)).flatten(1, 2)
    y = conv(conv(maps, layer.inner.basis_weight, None, 2, 1, groups=2), layer.expand.weight, groups=2)
    expected = F.gelu(layer.norm(y + conv(F.silu(x), layer.base_weight, None, 2, 1, groups=2)))
    torch.testing.assert_close(layer(x), expected)
    values = [x, *layer.parameters()]
    weight = torch.randn_like(expected)
    for got, want in zip(
        torch.autograd.grad((layer(x) * weight).sum(), values),
        torch.autograd.grad((expected * weight).sum(), values),
        strict=True,
    ):
        torch.testing.assert_close(got, want)


def test_groups_are_layers_side_by_side():
    layer = double(BottleneckKANConv2d, 6, 4, 3, padding=1, groups=2, basis="relu", bias=True)
    with torch.no_grad():
        for projection in (layer.squeeze, layer.expand):
            projection.bias.normal_()
    x = torch.randn(2, 6, 5, 5, dtype=torch.float64)
    parts = []
    for group in range(2):
        part = double(BottleneckKANConv2d, 3, 2, 3, padding=1, basis="relu", bias=True)
        part.load_state_dict({key: value.chunk(2)[group] for key, value in layer.state_dict().items()})
        parts.append(part(x[:, 3 * group : 3 * group + 3]))
    torch.testing.assert_close(layer(x), torch.cat(parts, 1))


@pytest.mark.parametrize(("basis", "ndim", "groups"), cover(BASES, [1, 2, 3], [1, 2]))
def test_merge_changes_nothing(basis, ndim, groups):
    layer = double(
        CONVS[ndim], 8, 12, 3, padding=1, groups=groups, basis=basis, min_internal=3, edge_scale=True
    )
    layer.eval()
    with torch.no_grad():
        layer.inner.edge_scale.normal_()
    x = torch.randn(2, 8, *[5, 4, 3][:ndim], dtype=torch.float64)
    with Convolutions() as before:
        y = layer(x)
    assert layer.merge() is layer
    with Convolutions() as after:
        merged = layer(x)
    torch.testing.assert_close(merged, y, rtol=1e-10, atol=1e-10)
    assert after.count == before.count - 1
    # In the precision of inference too.
    torch.testing.assert_close(layer.float()(x.float()), y.float(), rtol=1e-5, atol=3e-6)


@pytest.mark.parametrize("kind", ["conv", "linear", "moe"])
def test_merge_with_biases_copies_and_only_once(kind):
    if kind == "linear":
        layer, shape = double(BottleneckKANLinear, 5, 7, **get_preset("kagn", linear=True)), (3, 5)
    else:
        cls = BottleneckKANConv2d if kind == "conv" else MoEBottleneckKANConv2d
        layer, shape = (
            double(cls, 5, 7, 3, padding=1, bias=True, **get_preset("kagn", bottleneck=True)),
            (3, 5, 6, 6),
        )
    layer.eval()
    with torch.no_grad():
        layer.expand.bias.normal_()
        layer.squeeze.bias.normal_()
        if kind == "moe":
            layer.inner.gate.w_gate.normal_()
    x = torch.randn(shape, dtype=torch.float64)
    y = layer(x)
    merged = copy.deepcopy(layer).merge()
    torch.testing.assert_close(merged(x), y)
    torch.testing.assert_close(layer(x), y)
    with pytest.raises(ValueError, match="merged already"):
        merged.merge()


@pytest.mark.parametrize(
    ("sizes", "reduction", "least", "width"),
    [
        ((64, 128), 4, 16, 32),
        ((64, 128), 8, 16, 16),
        ((64, 120), 8, 16, 16),  # 15 is too few
        ((3, 120), 8, 16, 3),
        ((100, 30), 3, 16, 33),
        ((512, 512), 4.5, 16, 113),
    ],
)
def test_rule_of_the_inner_width(sizes, reduction, least, width):
    assert inner_channels(*sizes, reduction, least) == width


@pytest.mark.parametrize(("ndim", "groups", "name"), pairwise([1, 2, 3], [1, 4], ["kagn", "relukan"]))
def test_parameter_counts_of_the_published_layers(ndim, groups, name):
    options = get_preset(name, bottleneck=True)
    layer = CONVS[ndim](256, 512, 3, groups=groups, **options, device="meta")
    c, o, m, taps = 256 // groups, 512 // groups, 128 // groups, 3**ndim
    num_basis = {"kagn": 4, "relukan": 8}[name]
    weights = groups * (taps * c * o + c * m + m * o + num_basis * taps * m**2)
    # One beta for all; a start and an end for each inner channel.
    basis = {"kagn": 4, "relukan": 2 * num_basis * groups * m}[name]
    assert count(layer) == weights + basis + 2 * 512


def test_parameter_count_of_the_linear_layer():
    layer = BottleneckKANLinear(256, 512, **get_preset("kagn", linear=True), device="meta")
    assert layer.inner_width == 64
    assert count(layer) == 256 * 512 + 257 * 64 + 4 * 64**2 + 4 + 65 * 512 + 2 * 512


def test_linear_is_the_written_formula():
    layer = double(BottleneckKANLinear, 5, 7, "gram", norm="layer", act="silu", basis_act="silu")
    x = torch.randn(4, 3, 5, dtype=torch.float64)
    maps = F.silu(layer.inner.basis(layer.squeeze(x))).flatten(-2)
    y = F.silu(x) @ layer.base_weight.T + layer.expand(maps @ layer.inner.basis_weight.T)
    torch.testing.assert_close(layer(x), F.silu(layer.norm(y)))
    assert layer.expand.bias is not None
    assert BottleneckKANLinear(5, 7, bias=False).expand.bias is None


def test_published_noise_reaches_both_branches():
    torch.manual_seed(0)
    options = get_preset("kagn", bottleneck=True, norm=None, act=None, drop_rate=0.9)
    x = torch.randn(4, 8, 6, 6)
    for silent in ("base_weight", "expand.weight"):
        layer = BottleneckKANConv2d(8, 8, 3, padding=1, **options)
        with torch.no_grad():
            layer.get_parameter(silent).zero_()
        assert not torch.allclose(layer(x), layer(x))
        layer.eval()
        torch.testing.assert_close(layer(x), layer(x))


@pytest.mark.parametrize(
    ("position", "kind", "base", "inner"),
    [
        ("branch", "channel", False, True),
        ("squashed", "noise", False, True),
        ("basis", "element", False, True),
        ("input", "channel", True, True),
        ("output", "channel", True, True),
    ],
)
def test_places_of_dropout(position, kind, base, inner):
    torch.manual_seed(0)
    x = torch.randn(4, 8, 6, 6)
    for silent, noisy in (("expand.weight", base), ("base_weight", inner)):
        layer = BottleneckKANConv2d(
            8, 8, 3, basis="gram", drop_rate=0.5, drop_kind=kind, drop_position=position
        )
        with torch.no_grad():
            layer.get_parameter(silent).zero_()
        assert torch.allclose(layer(x), layer(x)) != noisy


def test_presets_carry_the_published_dropout():
    kagn = BottleneckKANConv2d(8, 8, 3, **get_preset("kagn", bottleneck=True, drop_rate=0.1))
    assert (kagn.drop_position, type(kagn.drop).__name__) == ("input", "NoiseInjection")
    relukan = BottleneckKANConv2d(8, 8, 3, **get_preset("relukan", bottleneck=True, drop_rate=0.1))
    assert (relukan.drop_position, type(relukan.drop).__name__) == ("input", "Dropout2d")
    moe = MoEBottleneckKANConv2d(8, 8, 3, **get_preset("kagn", bottleneck=True, drop_rate=0.1))
    expert = moe.inner.experts[0]
    assert (expert.drop_position, type(expert.drop).__name__) == ("basis", "NoiseInjection")
    # A place that is given stays.
    given = BottleneckKANConv2d(8, 8, 3, **get_preset("kagn", drop_rate=0.1))
    assert given.inner.drop_position == "squashed"


@pytest.mark.parametrize("basis", BASES)
def test_start_preserves_variance(basis):
    torch.manual_seed(0)
    layer = BottleneckKANConv2d(64, 96, 3, groups=2, basis=basis)
    assert layer(torch.randn(16, 64, 8, 8)).std().item() == pytest.approx(1.0, abs=0.15)


def test_published_start():
    torch.manual_seed(0)
    layer = BottleneckKANConv2d(64, 128, 3, **get_preset("kagn", bottleneck=True))
    bounds = {
        "squeeze.weight": (3 / 64) ** 0.5,
        "expand.weight": (3 / 32) ** 0.5,
        "base_weight": (3 / (9 * 64)) ** 0.5,
        "inner.basis_weight": (3 / (32 * 9 * 32 * 4)) ** 0.5,
    }
    for name, bound in bounds.items():
        assert layer.get_parameter(name).abs().max().item() == pytest.approx(bound, rel=0.01), name


def test_recomputing_keeps_little():
    kept = []
    for checkpoint in (False, True):
        layer = BottleneckKANConv2d(
            64, 64, 3, padding=1, **get_preset("kagn", bottleneck=True, norm="batch"), checkpoint=checkpoint
        )
        x = torch.randn(2, 64, 16, 16, requires_grad=True)
        tensors = {}

        def keep(tensor, tensors=tensors):
            tensors[tensor.untyped_storage().data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            layer(x)
        for parameter in layer.parameters():
            tensors.pop(parameter.untyped_storage().data_ptr(), None)
        kept.append(sum(size for size in tensors.values() if size >= x.numel() // 4) / x.numel())
    # x, the inner map before and after its convolution (a quarter each) and the sum of the branches.
    assert kept[1] <= 2.8 < kept[0]


def test_weight_decay_spares_the_basis():
    assert BottleneckKANConv2d(8, 8, 3, basis="gram").no_weight_decay() == {"inner.basis.beta"}
    moe = MoEBottleneckKANConv2d(8, 8, 3, basis="gram", num_experts=2)
    assert moe.no_weight_decay() == {f"inner.experts.{index}.basis.beta" for index in range(2)}


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"groups": 3}, "groups=3 does not divide in_channels=4"),
        ({"groups": 4}, "groups=4 does not divide out_channels=6"),
        ({"out_channels": 0}, "out_channels=0"),
        ({"dim_reduction": 0}, "dim_reduction=0"),
        ({"min_internal": -1}, "min_internal=-1"),
        ({"kernel_size": (3, 3, 3)}, r"kernel_size=\(3, 3, 3\)"),
        ({"drop_position": "middle"}, "drop_position='middle'.*input, branch"),
        ({"drop_kind": "pixel"}, "drop_kind='pixel'"),
        ({"init": "zeros"}, "init='zeros'"),
        ({"norm": "none"}, "norm='none'"),
    ],
)
def test_messages(kwargs, message):
    with pytest.raises(ValueError, match=message):
        BottleneckKANConv2d(**{"in_channels": 4, "out_channels": 6, "kernel_size": 3, **kwargs})
