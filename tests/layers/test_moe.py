"""Mixtures: the dense sum as oracle of every evaluation, sizes, starts, defects of the published code."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from kanvision.layers import (
    KANConv2d,
    MoEBottleneckKANConv1d,
    MoEBottleneckKANConv2d,
    MoEBottleneckKANConv3d,
    MoEKANConv1d,
    MoEKANConv2d,
    MoEKANConv3d,
    collect_auxiliary,
    get_preset,
)
from tests.covering import pairwise

MIXTURES = {1: MoEKANConv1d, 2: MoEKANConv2d, 3: MoEKANConv3d}
BOTTLENECKS = {1: MoEBottleneckKANConv1d, 2: MoEBottleneckKANConv2d, 3: MoEBottleneckKANConv3d}
GRAM = get_preset("kagn", bottleneck=True)


def mixture(cls, *args, **kwargs):
    torch.manual_seed(0)
    layer = cls(*args, **{"dtype": torch.float64, "copies": False, **kwargs})
    with torch.no_grad():
        layer.gate.w_gate.normal_()
    return layer


def count(layer):
    return sum(parameter.numel() for parameter in layer.parameters())


@pytest.mark.parametrize(
    ("evaluation", "basis", "ndim", "geometry"),
    pairwise(
        ["loop", "joint", "sparse", "auto"],
        ["gram", "relu", "bspline", "wavelet"],
        [1, 2, 3],
        [{"padding": 1}, {"groups": 2, "stride": 2, "padding": "valid"}],
    ),
)
def test_every_evaluation_is_the_gated_sum(evaluation, basis, ndim, geometry):
    layer = mixture(
        MIXTURES[ndim],
        4,
        6,
        3,
        num_experts=5,
        k=2,
        basis=basis,
        base_act=None,
        evaluation=evaluation,
        **geometry,
    )
    layer.eval()
    space = [6, 5, 4][:ndim]
    x = torch.randn(3, 4, *space, dtype=torch.float64, requires_grad=True)
    gates = layer.gate(x.flatten(2).mean(2)).gates
    assert len({tuple(row) for row in gates.gt(0).tolist()}) > 1  # samples choose differently
    expected = torch.stack(
        [
            sum(gates[row, index] * layer.experts[index](x[row : row + 1])[0] for index in range(5))
            for row in range(3)
        ]
    )
    y = layer(x)
    torch.testing.assert_close(y, expected)
    weight = torch.randn_like(y)
    values = [x, *(p for name, p in layer.named_parameters() if name != "gate.w_noise")]
    for got, want in zip(
        torch.autograd.grad((y * weight).sum(), values),
        torch.autograd.grad((expected * weight).sum(), values),
        strict=True,
    ):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("pad_space", ["basis", "input"])
@pytest.mark.parametrize("padding", ["same", (2, 0)])
def test_evaluations_agree_on_borders(pad_space, padding):
    outputs = []
    x = torch.randn(3, 4, 6, 5, dtype=torch.float64)
    for evaluation in ("loop", "joint", "sparse"):
        layer = mixture(
            MoEKANConv2d,
            4,
            4,
            (3, 2),
            padding=padding,
            pad_space=pad_space,
            basis="gram",
            basis_act="silu",
            base_act=None,
            bias=True,
            evaluation=evaluation,
        ).eval()
        with torch.no_grad():
            for index, expert in enumerate(layer.experts):
                expert.bias.fill_(index)
        outputs.append(layer(x))
    torch.testing.assert_close(outputs[1:], outputs[:1] * 2)


@pytest.mark.parametrize("position", ["input", "branch", "squashed", "basis", "output"])
def test_noise_in_every_evaluation(position):
    x = torch.randn(4, 4, 8, 8)
    for evaluation in ("loop", "joint", "sparse") if position != "output" else ("auto",):
        layer = MoEKANConv2d(
            4,
            4,
            3,
            basis="gram",
            base_act=None,
            noisy=False,
            drop_rate=0.5,
            drop_kind="noise",
            drop_position=position,
            evaluation=evaluation,
        )
        assert not torch.allclose(layer(x), layer(x))
        layer.eval()
        torch.testing.assert_close(layer(x), layer(x))


def test_auto_takes_what_fits():
    plain = MoEKANConv2d(4, 4, 3, basis="gram", base_act=None)
    small, large = torch.randn(4, 4, 9, 9), torch.randn(4, 4, 3, 3)
    assert plain._choose(small) == "sparse"
    assert plain._choose(large) == "joint"
    assert plain._choose(large[:1]) == "sparse"
    assert plain._choose(small.to("meta")) == "joint"
    assert MoEKANConv2d(4, 4, 3, basis="gram")._choose(small) == "loop"  # a base branch
    assert MoEKANConv2d(4, 4, 3, **GRAM)._choose(small) == "loop"  # norms
    plain.experts[1].register_forward_hook(lambda *_: None)  # somebody wants to see its outputs
    assert plain._choose(small) == "loop"


class HostReads(TorchDispatchMode):
    """Refuses what waits for the device or has shapes that depend on values."""

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "bincount", "item")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert not any(name in str(func) for name in self.FORBIDDEN), func
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("evaluation", ["loop", "joint", "sparse"])
def test_never_waits_for_the_device(evaluation):
    layer = MoEKANConv2d(1, 4, 3, basis="gram", base_act=None, evaluation=evaluation)
    x = torch.randn(3, 1, 6, 6)  # one channel: the published dispatch breaks
    with HostReads(), collect_auxiliary() as losses:
        y = layer(x)
        y.square().sum().add(losses[0]).backward()
    assert y.shape == (3, 4, 4, 4)


def test_experts_without_samples_have_zero_gradients():
    """Distributed training waits for a gradient of every parameter."""
    layer = mixture(MoEKANConv2d, 4, 4, 3, num_experts=6, k=1, noisy=False, basis="gram", base_act=None)
    for evaluation in ("loop", "joint", "sparse"):
        layer.evaluation = evaluation
        layer.zero_grad()
        x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
        chosen = set(layer.gate(x.flatten(2).mean(2)).indices.flatten().tolist())
        layer(x).square().sum().backward()
        for index, expert in enumerate(layer.experts):
            assert expert.basis_weight.grad.ne(0).any() == (index in chosen)
            assert expert.basis.beta.grad is not None


def test_trains_distributed_without_looking_for_unused_parameters(tmp_path):
    """The published second gate, which nothing reads, stops the second step."""
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        layer = MoEBottleneckKANConv2d(3, 8, 3, num_experts=6, k=1, pregate=True, **GRAM)
        parallel = torch.nn.parallel.DistributedDataParallel(layer)
        for _ in range(3):
            with collect_auxiliary() as losses:
                y = parallel(torch.randn(2, 3, 6, 6))
            y.square().mean().add(losses[0]).backward()
    finally:
        torch.distributed.destroy_process_group()
    assert all(parameter.grad is not None for parameter in layer.parameters())


def test_experts_start_as_copies_and_part():
    torch.manual_seed(0)
    layer = MoEKANConv2d(4, 4, 3, num_experts=4, **GRAM)
    for reset in (False, True):
        if reset:
            layer.reset_parameters()
        first = layer.experts[0].state_dict()
        for expert in layer.experts[1:]:
            torch.testing.assert_close(expert.state_dict(), first)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        layer(torch.randn(8, 4, 6, 6)).pow(3).mean().backward()
        optimizer.step()
    weights = torch.stack([expert.basis_weight for expert in layer.experts])
    assert (weights - weights[0]).abs().flatten(1).amax(1)[1:].gt(0).all()
    free = MoEKANConv2d(4, 4, 3, num_experts=2, copies=False, **GRAM)
    assert not torch.equal(free.experts[0].basis_weight, free.experts[1].basis_weight)


def test_norms_of_experts_see_every_sample_of_the_batch():
    """Published experts took the statistics of those samples alone that the gate had sent to them."""
    layer = mixture(MoEKANConv2d, 4, 6, 3, num_experts=3, k=1, norm="batch", noisy=False)
    alone = copy.deepcopy(layer.experts)
    x = torch.randn(12, 4, 6, 6, dtype=torch.float64)
    assert len(set(layer.gate(x.flatten(2).mean(2)).indices.flatten().tolist())) > 1
    layer(x)
    for expert, other in zip(layer.experts, alone, strict=True):
        other(x)
        torch.testing.assert_close(expert.norm.running_mean, other.norm.running_mean)
        torch.testing.assert_close(expert.norm.running_var, other.norm.running_var)


def test_one_penalty_for_each_layer():
    layers = torch.nn.Sequential(
        MoEBottleneckKANConv2d(3, 8, 3, **GRAM), MoEBottleneckKANConv2d(8, 8, 3, loss_coef=0.0, **GRAM)
    )
    x = torch.randn(4, 3, 9, 9)
    with collect_auxiliary() as losses:
        layers(x)
    assert len(losses) == 1
    layers.eval()
    with collect_auxiliary() as losses:
        layers(x)
    assert not losses


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_bottleneck_is_the_written_formula(ndim):
    torch.manual_seed(0)
    layer = BOTTLENECKS[ndim](
        6, 8, 3, padding=1, groups=2, num_experts=4, k=2, min_internal=2, **GRAM, dtype=torch.float64
    ).eval()
    with torch.no_grad():
        layer.inner.gate.w_gate.normal_()
    x = torch.randn(3, 6, *[5, 4, 3][:ndim], dtype=torch.float64)
    conv = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[ndim]
    z = conv(x, layer.squeeze.weight, groups=2)
    logits = z.flatten(2).mean(2) @ layer.inner.gate.w_gate
    mixed = torch.zeros_like(z)
    for row in range(3):
        chosen = logits[row].argsort(descending=True)[:2]
        for share, index in zip(logits[row, chosen].softmax(0), chosen, strict=True):
            mixed[row] += share * layer.inner.experts[index](z[row : row + 1])[0]
    y = conv(mixed, layer.expand.weight, groups=2) + conv(F.silu(x), layer.base_weight, padding=1, groups=2)
    torch.testing.assert_close(layer(x), F.silu(layer.norm(y)))


def test_parameter_count_of_a_layer():
    layer = MoEBottleneckKANConv2d(64, 128, 3, dim_reduction=8, num_experts=8, **GRAM, device="meta")
    shared = 9 * 64 * 128 + 64 * 16 + 16 * 128 + 2 * 128
    assert count(layer) == shared + 8 * (4 * 9 * 16**2 + 4) + 2 * 16 * 8
    quiet = MoEBottleneckKANConv2d(
        64, 128, 3, dim_reduction=8, num_experts=8, noisy=False, **GRAM, device="meta"
    )
    assert count(layer) - count(quiet) == 16 * 8
    pregate = MoEBottleneckKANConv2d(64, 128, 3, dim_reduction=8, pregate=True, **GRAM, device="meta")
    # The published fully connected Gram layer: 5 weights for each pair, beta, layer norm.
    assert count(pregate) - count(layer) == 5 * 16**2 + 4 + 2 * 16


def chain(widths, first, *, degree, dim_reduction, classes, first_is_moe):
    """Parameters of a chain of layers with a linear classifier, and how many the published code adds dead."""
    options = get_preset("kagn", bottleneck=True, norm="batch", basis_kwargs={"degree": degree})
    total, dead, channels = 0, 0, first
    for index, width in enumerate(widths):
        layer = MoEBottleneckKANConv2d(
            channels, width, 3, dim_reduction=dim_reduction, num_experts=8, **options, device="meta"
        )
        if index or first_is_moe:
            total, dead = total + count(layer), dead + 2 * layer.inner_width * 8
        else:
            # A plain bottleneck: one expert, no gate.
            total += count(layer) - count(layer.inner) + count(layer.inner.experts[0])
        channels = width
    return total + (channels + 1) * classes, dead


@pytest.mark.parametrize(
    ("widths", "options", "published"),
    [
        # 8 layers on CIFAR-100, VGG11v4 and VGG11 on Tiny ImageNet
        ([16, 32, 64, 128, 256, 256, 512, 512], (3, 4, 100, True), 17_127_085),
        ([32, 64, 128, 128, *[256] * 4, 512, 512], (5, 8, 1000, False), 12_197_389),
        ([16, 32, 64, 64, 128, 128, 128, 128], (3, 8, 200, False), 1_143_609),
    ],
)
def test_published_counts_less_the_parameters_that_nothing_reads(widths, options, published):
    degree, dim_reduction, classes, first_is_moe = options
    total, dead = chain(
        widths, 3, degree=degree, dim_reduction=dim_reduction, classes=classes, first_is_moe=first_is_moe
    )
    assert total == published - dead


def test_all_experts_of_a_full_mixture_are_layers():
    layer = MoEKANConv2d(8, 16, 3, num_experts=4, k=2, **get_preset("kaln"), device="meta")
    expert = KANConv2d(8, 16, 3, **get_preset("kaln"), device="meta")
    assert count(layer) == 4 * count(expert) + 2 * 8 * 4


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"evaluation": "dense"}, "evaluation='dense'.*auto, loop, joint, sparse"),
        ({"evaluation": "joint"}, "evaluation='joint' needs experts"),
        ({"evaluation": "sparse", "base_act": None, "norm": "batch"}, "evaluation='sparse' needs experts"),
        ({"k": 9}, "k=9 must be between 1 and num_experts=8"),
        ({"groups": 3}, "groups=3 does not divide in_channels=4"),
        ({"pregate": True, "expert": torch.nn.Conv2d}, "pregate=True.*Conv2d has none"),
    ],
)
def test_messages(kwargs, message):
    with pytest.raises(ValueError, match=message):
        MoEKANConv2d(4, 6, 3, **kwargs)
