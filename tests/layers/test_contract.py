"""What every layer that is made of KAN convolutions promises: training, copies, shapes, compilers."""

import copy
from functools import partial

import pytest
import torch

from kanvision.layers import (
    PRESETS,
    BottleneckKANConv1d,
    BottleneckKANConv2d,
    BottleneckKANConv3d,
    BottleneckKANLinear,
    KANFocalModulation1d,
    KANFocalModulation2d,
    KANFocalModulation3d,
    KANSelfAttention1d,
    KANSelfAttention2d,
    KANSelfAttention3d,
    MoEBottleneckKANConv1d,
    MoEBottleneckKANConv2d,
    MoEBottleneckKANConv3d,
    MoEKANConv1d,
    MoEKANConv2d,
    MoEKANConv3d,
    collect_auxiliary,
    get_preset,
)

GRAM = get_preset("kagn", bottleneck=True, norm="batch")
EXPERTS = {"num_experts": 3, "k": 2}
PLAIN_EXPERTS = {**EXPERTS, "basis": "gram", "base_act": None}

# name: (class, positional arguments, keyword arguments, space of the input)
CASES = {
    "bottleneck_1d": (BottleneckKANConv1d, (4, 6, 3), {"padding": 1, **GRAM}, (7,)),
    "bottleneck_2d": (BottleneckKANConv2d, (4, 6, 3), {"padding": 1, "groups": 2, **GRAM}, (5, 4)),
    "bottleneck_3d": (BottleneckKANConv3d, (4, 6, 3), {"padding": 1, **GRAM}, (3, 4, 3)),
    "bottleneck_relu": (
        BottleneckKANConv2d,
        (4, 6, 3),
        {"padding": 1, **get_preset("relukan", bottleneck=True, norm="batch")},
        (5, 4),
    ),
    "bottleneck_linear": (BottleneckKANLinear, (4, 6), get_preset("kagn", linear=True), None),
    "moe_1d": (MoEKANConv1d, (4, 6, 3), {"padding": 1, **EXPERTS, **GRAM}, (7,)),
    "moe_2d": (MoEKANConv2d, (4, 6, 3), {"padding": 1, **EXPERTS, **GRAM}, (5, 4)),
    "moe_3d": (MoEKANConv3d, (4, 6, 3), {"padding": 1, **PLAIN_EXPERTS}, (3, 4, 3)),
    "moe_joint": (MoEKANConv2d, (4, 6, 3), {"padding": 1, "evaluation": "joint", **PLAIN_EXPERTS}, (5, 4)),
    "moe_sparse": (MoEKANConv2d, (4, 6, 3), {"padding": 1, "evaluation": "sparse", **PLAIN_EXPERTS}, (5, 4)),
    "moe_of_bottlenecks": (
        MoEKANConv2d,
        (4, 6, 3),
        {"padding": 1, "expert": BottleneckKANConv2d, **EXPERTS, **GRAM},
        (5, 4),
    ),
    "moe_bottleneck_1d": (MoEBottleneckKANConv1d, (4, 6, 3), {"padding": 1, **EXPERTS, **GRAM}, (7,)),
    "moe_bottleneck_2d": (
        MoEBottleneckKANConv2d,
        (4, 6, 3),
        {"padding": 1, "groups": 2, "pregate": True, **EXPERTS, **GRAM},
        (5, 4),
    ),
    "moe_bottleneck_3d": (MoEBottleneckKANConv3d, (4, 6, 3), {"padding": 1, **EXPERTS, **GRAM}, (3, 4, 3)),
    "attention_1d": (KANSelfAttention1d, (4,), GRAM, (7,)),
    "attention_2d": (KANSelfAttention2d, (4,), {"inner_projection": 2, "groups": 2, **GRAM}, (5, 4)),
    "attention_3d": (KANSelfAttention3d, (4,), {"num_heads": 2, **GRAM}, (3, 4, 3)),
    "attention_rope": (KANSelfAttention2d, (4,), {"rope": "mixed", **GRAM}, (5, 4)),
    "attention_axial": (KANSelfAttention1d, (4,), {"rope": "axial", "num_heads": 2, **GRAM}, (7,)),
    "attention_parity": (KANSelfAttention2d, (4,), {"parity": True, **GRAM}, (5, 4)),
    "attention_moe": (
        KANSelfAttention2d,
        (4,),
        {"conv": partial(MoEBottleneckKANConv2d, **EXPERTS), **GRAM},
        (5, 4),
    ),
    "focal_1d": (KANFocalModulation1d, (4,), GRAM, (7,)),
    "focal_2d": (KANFocalModulation2d, (4,), {"conv": BottleneckKANConv2d, **GRAM}, (5, 4)),
    "focal_3d": (KANFocalModulation3d, (4,), {"full_kan": False, "focal_level": 1, **GRAM}, (3, 4, 3)),
}
# Compiling takes seconds: one of each kind.
COMPILED = ["bottleneck_linear", "moe_sparse", "attention_2d", "focal_3d"]


def make(case, width=1, **kwargs):
    torch.manual_seed(0)
    cls, sizes, options, space = CASES[case]
    layer = cls(*(size if size == 3 else width * size for size in sizes), **{**options, **kwargs})
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            # Gates and the attention branch start at zero, where nothing can be told apart.
            if name.endswith(("w_gate", "w_noise", "gamma")):
                parameter.normal_()
    return layer, ((3, 4) if space is None else (3, 4, *space))


@pytest.fixture(params=CASES)
def case(request):
    return request.param


def test_every_parameter_gets_a_gradient(case):
    layer, shape = make(case)
    x = torch.randn(shape, requires_grad=True)
    with collect_auxiliary() as auxiliary:
        y = layer(x)
    (y * torch.randn_like(y)).sum().add(sum(auxiliary)).backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # A grouped norm takes out what is equal for all positions; experts that no sample chose have zeros.
        assert parameter.grad.ne(0).any() or "experts" in name, name
    assert x.grad.ne(0).any()


def test_gradients_are_those_of_the_function(case):
    layer, shape = make(case, dtype=torch.float64)
    layer.eval()
    x = torch.randn(2, *shape[1:], dtype=torch.float64, requires_grad=True)
    # Noise belongs to training.
    names = [name for name, _ in layer.named_parameters() if not name.endswith("w_noise")]

    def function(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), x)

    values = [layer.get_parameter(name) for name in names]
    assert torch.autograd.gradcheck(function, (x, *values), fast_mode=True)


def test_recomputing_changes_no_gradient(case):
    grads = []
    for checkpoint in (False, True):
        layer, shape = make(case, checkpoint=checkpoint)
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
        torch.manual_seed(2)  # the gate's noise
        y = layer(x)
        y.square().sum().backward()
        buffers = [value.clone() for value in layer.buffers()]
        grads.append([y, x.grad, *(parameter.grad for parameter in layer.parameters()), *buffers])
    for plain, recomputed in zip(*grads, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_samples_do_not_see_each_other_in_evaluation(case):
    layer, shape = make(case)
    layer.eval()
    x = torch.randn(shape)
    whole = layer(x)
    for index in range(shape[0]):
        torch.testing.assert_close(
            layer(x[index : index + 1]), whole[index : index + 1], rtol=1e-4, atol=1e-5
        )
    assert layer(x[:0]).shape == (0, *whole.shape[1:])


def test_copies_after_a_forward_pass(case):
    layer, shape = make(case)
    x = torch.randn(shape)
    layer(x)
    twin = copy.deepcopy(layer).eval()
    layer.eval()
    torch.testing.assert_close(twin(x), layer(x))
    other, _ = make(case)
    other.load_state_dict(layer.state_dict())
    torch.testing.assert_close(other.eval()(x), layer(x))


def test_maps_of_one_position(case):
    layer, shape = make(case)
    x = torch.randn(*shape[:2], *[1] * (len(shape) - 2))
    y = layer(x)
    y.sum().backward()
    assert y.shape[2:] == x.shape[2:]
    assert y.isfinite().all()


def test_autocast_is_finite(case):
    layer, shape = make(case)
    x = 3 * torch.randn(shape)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    y.float().square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())
    layer.eval()
    exact = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    # A gate near a tie may choose otherwise, for a sample or two of the few.
    assert (y - exact).abs().median() < 0.1
    half, shape = make(case, dtype=torch.bfloat16)
    assert half(torch.randn(shape, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("case", COMPILED)
def test_compiles_in_one_graph(case):
    """Training, with its noise and auxiliary losses; `test_exports` traces evaluation."""
    torch._dynamo.reset()
    layer, shape = make(case)
    x = torch.randn(shape, requires_grad=True)
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    torch.manual_seed(1)
    with collect_auxiliary() as want_auxiliary:
        want = layer(x)
    torch.manual_seed(1)
    with collect_auxiliary() as got_auxiliary:
        got = compiled(x)
    torch.testing.assert_close([got, *got_auxiliary], [want, *want_auxiliary])
    got.square().sum().add(sum(got_auxiliary)).backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("case", COMPILED)
def test_exports(case):
    layer, shape = make(case)
    layer.eval()
    x = torch.randn(shape)
    program = torch.export.export(layer, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=2)},))
    bigger = torch.randn(5, *shape[1:])
    torch.testing.assert_close(program.module()(bigger), layer(bigger), rtol=1e-4, atol=1e-5)


def test_meta_device_and_reset(case):
    layer, shape = make(case, device="meta")
    assert layer(torch.randn(shape, device="meta")).shape[0] == shape[0]
    layer.to_empty(device="cpu").reset_parameters()
    layer.eval()
    assert layer(torch.randn(shape)).isfinite().all()


def test_resets_to_the_start(case):
    """Every parameter gets the spread that it was made with, also deep inside."""
    fresh, _ = make(case, width=4)
    layer, _ = make(case, width=4)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(100.0)
    layer.reset_parameters()
    for (name, want), got in zip(fresh.named_parameters(), layer.parameters(), strict=True):
        if name.endswith(("w_gate", "w_noise", "gamma")):
            assert got.eq(0).all(), name
        elif want.unique().numel() < 3 or want.numel() < 50:
            assert got.abs().max() <= 2.0, name
        else:
            spread = want.square().mean().sqrt().item()
            assert got.square().mean().sqrt().item() == pytest.approx(spread, rel=0.3), name


def test_weight_decay_spares_the_functions(case):
    layer, _ = make(case)
    names = layer.no_weight_decay()
    assert names
    assert all("basis." in name for name in names)
    assert names <= {name for name, _ in layer.named_parameters()}


def test_wrong_inputs_are_named(case):
    layer, shape = make(case)
    wrong = torch.randn(shape[0], shape[1] + 1, *shape[2:])
    with pytest.raises(ValueError, match=r"\(3, 5"):
        layer(wrong)


@pytest.mark.parametrize("case", [name for name in CASES if name.endswith("2d")])
def test_channels_last_equals_contiguous(case):
    layer, shape = make(case)
    layer.eval()
    x = torch.randn(shape)
    torch.testing.assert_close(layer(x.to(memory_format=torch.channels_last)), layer(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PRESETS)
def test_every_published_layer_fits_in(name):
    torch.manual_seed(0)
    options = get_preset(name, bottleneck=True, drop_rate=0.1)
    x = torch.randn(2, 8, 6, 5)
    for layer in (
        BottleneckKANConv2d(8, 8, 3, padding=1, **options),
        MoEBottleneckKANConv2d(8, 8, 3, padding=1, pregate=True, **EXPERTS, **options),
        MoEKANConv2d(8, 8, 3, padding=1, **EXPERTS, **options),
        KANSelfAttention2d(8, rope="axial", **options),
        KANFocalModulation2d(8, **options),
    ):
        y = layer(x)
        y.square().sum().backward()
        assert y.shape == x.shape
        assert y.isfinite().all()
        assert all(parameter.grad is not None for parameter in layer.parameters())
