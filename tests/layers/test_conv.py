"""Convolutional KAN layers: equivalences, padding, layouts, training, messages."""

import copy

import pytest
import torch
import torch.nn.functional as F

from kanvision.bases import BASES
from kanvision.layers import KANConv1d, KANConv2d, KANConv3d, KANLinear
from tests.covering import cover, one_of_each, pairwise

CONVS = {1: KANConv1d, 2: KANConv2d, 3: KANConv3d}


def double(cls, *args, **kwargs):
    torch.manual_seed(0)
    return cls(*args, **kwargs, dtype=torch.float64)


@pytest.mark.parametrize(("basis", "ndim"), cover(BASES, [1, 2, 3]))
def test_one_by_one_is_linear(basis, ndim):
    conv = double(CONVS[ndim], 4, 6, 1, basis=basis, norm="layer", act="silu", bias=True)
    linear = double(KANLinear, 4, 6, basis, norm="layer", act="silu", bias=True)
    state = conv.state_dict()
    for key in ("base_weight", "basis_weight"):
        state[key] = state[key].flatten(1)
    linear.load_state_dict(state)
    x = torch.randn(2, 4, *[5, 4, 3][:ndim], dtype=torch.float64)
    torch.testing.assert_close(conv(x), linear(x.movedim(1, -1)).movedim(-1, 1))


@pytest.mark.parametrize("basis", ["bspline", "gram", "wavelet"])
def test_is_unfold_and_linear(basis):
    conv = double(
        KANConv2d,
        3,
        5,
        (3, 2),
        stride=(2, 1),
        dilation=(1, 2),
        basis=basis,
        basis_kwargs={"num_channels": None},
    )
    linear = double(KANLinear, 3 * 6, 5, basis, basis_kwargs={"num_channels": None})
    num_basis = conv.basis.num_basis
    linear.basis.load_state_dict(conv.basis.state_dict())
    # Taps go behind channels, functions behind taps.
    weight = conv.basis_weight.unflatten(1, (3, num_basis)).flatten(3).transpose(2, 3)
    with torch.no_grad():
        linear.basis_weight.copy_(weight.flatten(1))
        linear.base_weight.copy_(conv.base_weight.flatten(1))
    x = torch.randn(2, 3, 8, 9, dtype=torch.float64)
    patches = F.unfold(x, (3, 2), dilation=(1, 2), stride=(2, 1))  # (B, C taps, L)
    y = conv(x)
    torch.testing.assert_close(y.flatten(2), linear(patches.transpose(1, 2)).transpose(1, 2))


@pytest.mark.parametrize("basis", ["bspline", "gram", "relu"])
def test_grouped_is_split_and_cat(basis):
    conv = double(KANConv2d, 6, 4, 3, padding=1, groups=2, basis=basis, bias=True)
    x = torch.randn(2, 6, 5, 5, dtype=torch.float64)
    parts = []
    for g in range(2):
        part = double(KANConv2d, 3, 2, 3, padding=1, basis=basis, bias=True)
        with torch.no_grad():
            for name, value in part.named_parameters():
                whole = conv.get_parameter(name)
                shared = whole.shape == value.shape and name.startswith("basis.")
                value.copy_(whole if shared else whole.chunk(2)[g])
        parts.append(part(x[:, 3 * g : 3 * g + 3]))
    torch.testing.assert_close(conv(x), torch.cat(parts, 1))


@pytest.mark.parametrize("basis", BASES)
def test_every_basis_is_a_convolution_of_its_maps(basis):
    """The written-out sum, for bases whose constant function takes a short cut too."""
    conv = double(KANConv2d, 4, 6, 3, padding=1, stride=2, groups=2, basis=basis, basis_act="silu")
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64, requires_grad=True)
    maps = F.silu(conv.basis(x, 1)).flatten(1, 2)
    expected = F.conv2d(maps, conv.basis_weight, None, 2, 1, groups=2)
    expected = expected + F.conv2d(F.silu(x), conv.base_weight, None, 2, 1, groups=2)
    y = conv(x)
    torch.testing.assert_close(y, expected)
    inputs = (x, *conv.parameters())
    grad = torch.randn_like(y)
    for got, want in zip(
        torch.autograd.grad(y, inputs, grad), torch.autograd.grad(expected, inputs, grad), strict=True
    ):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize(("basis", "ndim"), cover(BASES, [1, 2, 3]))
def test_trains_one_step(basis, ndim):
    torch.manual_seed(0)
    conv = CONVS[ndim](3, 4, 3, padding=1, basis=basis, norm="batch", act="prelu")
    x = torch.randn(2, 3, *[4] * ndim, requires_grad=True)
    optimizer = torch.optim.SGD(conv.parameters(), lr=0.01)
    target = torch.randn(2, 4, *[4] * ndim)
    before = F.mse_loss(conv(x), target)
    before.backward()
    for name, parameter in conv.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # The gates of a selectable basis are equal in its first phase, and the gradient of their logits is 0.
        assert parameter.grad.ne(0).any() or name == "basis.logits", name
    assert x.grad.ne(0).any()
    optimizer.step()
    assert F.mse_loss(conv(x), target) < before


@pytest.mark.parametrize(
    ("mode", "pad_space", "basis", "padding"),
    pairwise(
        ["zeros", "reflect", "replicate", "circular"],
        ["basis", "input"],
        ["bspline", "gram", "bernstein"],
        [1, (2, 0), "same", "valid"],
    ),
)
def test_padding_against_written_reference(mode, pad_space, basis, padding):
    conv = double(
        KANConv2d,
        2,
        3,
        (3, 2),
        padding=padding,
        padding_mode=mode,
        pad_space=pad_space,
        basis=basis,
        base_act="sigmoid",
    )
    x = torch.randn(2, 2, 6, 5, dtype=torch.float64)
    # F.pad order: left, right, top, bottom. The kernel is 3 high and 2 wide, "same" adds the odd cell behind.
    sides = {1: (1, 1, 1, 1), (2, 0): (0, 0, 2, 2), "same": (0, 1, 1, 1), "valid": (0, 0, 0, 0)}[padding]

    def expand(values):
        return torch.cat([torch.sigmoid(values), conv.basis(values, 1).flatten(1, 2)], 1)

    if mode != "zeros":
        maps = expand(F.pad(x, sides, mode=mode))
        torch.testing.assert_close(maps, F.pad(expand(x), sides, mode=mode))
    elif pad_space == "input":
        maps = expand(F.pad(x, sides))
    else:
        maps = F.pad(expand(x), sides)
    expected = F.conv2d(maps, torch.cat([conv.base_weight, conv.basis_weight], 1))
    torch.testing.assert_close(conv(x), expected)
    if padding == "same":
        assert conv(x).shape[2:] == x.shape[2:]


def test_pad_spaces_differ_at_the_border_only():
    convs = [
        double(KANConv2d, 2, 3, 3, padding=1, basis="gram", pad_space=space) for space in ("basis", "input")
    ]
    x = torch.randn(1, 2, 6, 6, dtype=torch.float64)
    difference = (convs[0](x) - convs[1](x)).abs().amax((0, 1))
    assert difference[1:-1, 1:-1].max() < 1e-12
    assert difference[0].min() > 1e-6


@pytest.mark.parametrize(("basis", "norm"), cover(BASES, ["batch", "layer"]))
def test_channels_last_equals_contiguous(basis, norm):
    torch.manual_seed(0)
    conv = KANConv2d(4, 8, 3, padding=1, basis=basis, norm=norm, act="silu")
    x = torch.randn(2, 4, 6, 5)
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        module = copy.deepcopy(conv).to(memory_format=layout)
        inputs = x.clone(memory_format=layout).requires_grad_()
        y = module(inputs)
        # A norm over the channels may leave contiguous maps in the other layout.
        assert y.is_contiguous(memory_format=layout) or norm == "layer"
        y.square().sum().backward()
        results.append([y, inputs.grad, *(parameter.grad for parameter in module.parameters())])
    for plain, last in zip(*results, strict=True):
        torch.testing.assert_close(plain, last, rtol=1e-3, atol=1e-3)


def test_checkpoint_keeps_inputs_only():
    grads, kept = [], []
    for checkpoint in (False, True):
        torch.manual_seed(0)
        conv = KANConv2d(
            4, 4, 3, padding=1, norm="batch", input_norm="batch", drop_rate=0.5, checkpoint=checkpoint
        )
        x = torch.randn(2, 4, 8, 8, requires_grad=True)
        sizes = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, s=sizes: s.update({t.data_ptr(): t.numel()}) or t, lambda t: t
        ):
            y = conv(x)
        weights = {parameter.data_ptr() for parameter in conv.parameters()}
        kept.append(sum(size for place, size in sizes.items() if place not in weights) / x.numel())
        y.square().sum().backward()
        grads.append([x.grad, conv.norm.running_mean, conv.input_norm.running_mean])
        grads[-1] += [parameter.grad for parameter in conv.parameters()]
    for plain, recomputed in zip(*grads, strict=True):
        torch.testing.assert_close(plain, recomputed)
    # Inputs of the two norms and of the two branches, small statistics, and never eight maps.
    assert max(kept) <= 4.2


def test_dropout_is_per_channel_and_spares_the_base():
    torch.manual_seed(0)
    conv = KANConv2d(16, 4, 1, drop_rate=0.5, basis="fourier", basis_kwargs={"num_frequencies": 1})
    with torch.no_grad():
        conv.base_weight.zero_()
    x = torch.rand(8, 16, 3, 3)
    assert not torch.allclose(conv(x), conv(x))
    kept = conv.drop(torch.ones(8, 16, 3, 3)).flatten(2)
    assert torch.equal(kept.amax(2), kept.amin(2))
    assert set(kept.unique().tolist()) == {0.0, 2.0}
    conv.eval()
    torch.testing.assert_close(conv(x), conv(x))
    with torch.no_grad():
        conv.base_weight.fill_(1.0)
        conv.basis_weight.zero_()
    conv.train()
    torch.testing.assert_close(conv(x), conv(x))


@pytest.mark.parametrize("basis", BASES)
def test_autocast_and_half_are_finite(basis):
    torch.manual_seed(0)
    conv = KANConv2d(4, 8, 3, padding=1, basis=basis, norm="batch", act="silu")
    x = 3 * torch.randn(2, 4, 8, 8, requires_grad=True)
    exact = conv(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = conv(x)
    y.float().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in conv.parameters())
    assert (y - exact).abs().mean() < 0.05
    half = KANConv2d(4, 8, 3, padding=1, basis=basis, dtype=torch.bfloat16)
    assert half(x.bfloat16()).dtype == torch.bfloat16
    assert half(x.bfloat16()).isfinite().all()


@pytest.mark.parametrize("basis", one_of_each(["gram", "bspline", "wavelet"], lambda basis: "compiled"))
def test_compiles_exports_and_runs_on_meta(basis):
    torch._dynamo.reset()
    conv = KANConv2d(3, 4, 3, padding=1, basis=basis, norm="batch", act="silu").eval()
    x = torch.randn(2, 3, 6, 6, requires_grad=True)
    y = torch.compile(conv, backend="aot_eager", fullgraph=True)(x)
    torch.testing.assert_close(y, conv(x))
    got = torch.autograd.grad(y.square().sum(), [x, *conv.parameters()])
    want = torch.autograd.grad(conv(x).square().sum(), [x, *conv.parameters()])
    for left, right in zip(got, want, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-4)
    program = torch.export.export(conv, (x.detach(),))
    torch.testing.assert_close(program.module()(x), conv(x))
    meta = KANConv2d(3, 4, 3, padding=1, basis=basis, norm="batch", device="meta")
    assert meta(torch.randn(2, 3, 6, 6, device="meta")).shape == (2, 4, 6, 6)
    meta.to_empty(device="cpu").reset_parameters()
    assert meta(x).isfinite().all()


@pytest.mark.parametrize("basis", BASES)
def test_start_preserves_variance(basis):
    torch.manual_seed(0)
    conv = KANConv2d(64, 96, 3, groups=2, basis=basis)
    assert conv(torch.randn(16, 64, 8, 8)).std().item() == pytest.approx(1.0, abs=0.1)


def test_normal_start_counts_all_groups():
    torch.manual_seed(0)
    conv = KANConv2d(32, 64, 3, groups=4, basis="legendre", init="normal")
    assert conv.basis_weight.std().item() == pytest.approx(1 / (32 * 4 * 9), rel=0.05)


def test_joint_start_counts_the_outputs_of_a_group():
    torch.manual_seed(0)
    conv = KANConv2d(32, 64, 3, groups=4, basis="legendre", init="kaiming_joint")
    bound = (3 / (16 * 8 * 4 * 9)) ** 0.5  # O/groups C/groups K taps
    assert conv.basis_weight.abs().max().item() == pytest.approx(bound, rel=0.01)


@pytest.mark.parametrize("name", ["batch", "instance", "layer", "minmax"])
def test_input_norm_is_for_the_basis_only(name):
    torch.manual_seed(0)
    conv = double(KANConv2d, 4, 4, 3, input_norm=name, base_act="identity")
    x = torch.randn(3, 4, 6, 6, dtype=torch.float64)
    z = conv.input_norm(x)
    assert not torch.allclose(x, z)
    maps = conv.basis(z, 1).flatten(1, 2)
    expected = F.conv2d(x, conv.base_weight) + F.conv2d(maps, conv.basis_weight)
    torch.testing.assert_close(conv(x), expected)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"in_channels": 0}, "in_channels=0"),
        ({"groups": 0}, "groups=0"),
        ({"groups": 3}, "groups=3 does not divide in_channels=4"),
        ({"groups": 2, "out_channels": 5}, "groups=2 does not divide out_channels=5"),
        ({"kernel_size": 0}, "kernel_size=0"),
        ({"kernel_size": (3, 3, 3)}, r"kernel_size=\(3, 3, 3\) must be an int or 2"),
        ({"stride": 0}, "stride=0"),
        ({"stride": 1.5}, "stride=1.5"),
        ({"dilation": (1, 0)}, "dilation="),
        ({"padding": -1}, "padding=-1"),
        ({"padding": "full"}, "padding='full'.*'same', 'valid'"),
        ({"padding": "same", "stride": 2}, "padding='same' needs stride=1"),
        ({"padding_mode": "mirror"}, "padding_mode='mirror'.*zeros, reflect, replicate, circular"),
        ({"pad_space": "output"}, "pad_space='output'.*basis, input"),
        ({"drop_rate": 1.0}, "drop_rate=1.0"),
    ],
)
def test_messages(kwargs, message):
    with pytest.raises(ValueError, match=message):
        KANConv2d(**{"in_channels": 4, "out_channels": 6, "kernel_size": 3, **kwargs})


def test_wrong_input():
    with pytest.raises(ValueError, match=r"KANConv2d takes \(B, 4, 2 space axes\).*\(2, 3, 5, 5\)"):
        KANConv2d(4, 6, 3)(torch.randn(2, 3, 5, 5))
    with pytest.raises(ValueError, match="KANConv1d"):
        KANConv1d(4, 6, 3)(torch.randn(2, 4, 5, 5))
