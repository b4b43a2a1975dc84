"""GroupRational: its presets are the functions of their names, its options, its refusals."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kanvision.layers import RATIONAL_PRESETS, GroupRational
from kanvision.ops.rational import FORMS, rational
from tests.covering import one_of_each

# (function, largest error on [-3, 3], Var[x] / E[F(x)^2] for x ~ N(0, 1)), measured on published constants
FUNCTIONS = {
    "identity": (lambda x: x, 0.0, 1.0),
    "swish": (F.silu, 1.3e-6, 2.8108),
    "gelu": (F.gelu, 3.8e-3, 2.352),
    "mish": (F.mish, 2e-4, 2.211),
    "relu": (F.relu, 3.1e-2, 2.0006),
    "leaky_relu": (F.leaky_relu, 3.1e-2, 2.0004),
    "leaky_relu_0.1": (lambda x: F.leaky_relu(x, 0.1), 2.9e-2, 1.981),
    "tanh": (torch.tanh, 4.5e-5, 2.536),
    "sigmoid": (torch.sigmoid, 2e-5, 3.4086),
    "kat_gelu_old": (F.gelu, 4.2e-3, 2.3516),
}
PUBLISHED_GAINS = {
    "kat_gelu": 3.1926,
    "kat_geglu": 0.7996,
    "kat_swishglu": 1.0357,
    "kat_erfc_softplus_2": 13.1,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_preset_is_the_function_of_its_name(name):
    function, error, _ = FUNCTIONS[name]
    x = torch.linspace(-3, 3, 601, dtype=torch.float64)[:, None].expand(-1, 8)
    assert (GroupRational(8, init=name)(x) - function(x)).abs().max() <= error


def test_the_published_gelu_is_not_gelu():
    x = torch.linspace(-3, 3, 601)[:, None].expand(-1, 8)
    assert 1.4 < (GroupRational(8, init="kat_gelu")(x) - F.gelu(x)).abs().max() < 1.5
    meant = GroupRational(8, init="kat_gelu", form="paper")
    assert (meant(x) - F.gelu(x)).abs().max() < 5e-3
    assert meant.second_moment()[0].item() == pytest.approx(1 / 2.35, rel=1e-2)


@pytest.mark.parametrize("form", one_of_each(FORMS, lambda form: "file"))
def test_onnx_file_gives_the_same(form, tmp_path):
    """Ordinary operators only: no runtime has to know ours."""
    import onnxruntime

    layer = GroupRational(8, num_groups=2, init="swish", form=form).eval()
    path = str(tmp_path / "rational.onnx")
    batch = torch.export.Dim("batch")
    torch.onnx.export(
        layer, (torch.randn(3, 5, 8),), path, dynamo=True, dynamic_shapes=({0: batch},), verbose=False
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    x = 3 * torch.randn(7, 5, 8)
    x[0, 0, 0] = 1e20
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(y), layer(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", RATIONAL_PRESETS)
def test_second_moment_gives_the_gain(name):
    gain = FUNCTIONS[name][2] if name in FUNCTIONS else PUBLISHED_GAINS[name]
    moment = GroupRational(8, num_groups=4, init=name).second_moment()
    assert moment.shape == (4,)
    assert torch.allclose(1 / moment, torch.full_like(moment, gain), rtol=5e-4 if gain < 10 else 2e-3)


def test_second_moment_follows_the_parameters():
    layer = GroupRational(8, num_groups=2, share_numerator=False)
    with torch.no_grad():
        layer.numerator[1, 1] = 3.0
    assert torch.allclose(layer.second_moment(), torch.tensor([1.0, 9.0]).double(), rtol=1e-4)


@pytest.mark.parametrize(("shared", "rows"), [(True, 1), (False, 4)])
def test_parameters(shared, rows):
    layer = GroupRational(8, num_groups=4, init="swish", share_numerator=shared)
    assert layer.numerator.shape == (rows, 6)
    assert layer.denominator.shape == (4, 4)
    assert set(layer.kan_parameters) == {name for name, _ in layer.named_parameters()}
    x = torch.randn(3, 8)
    assert torch.equal(layer(x), rational(x, layer.numerator, layer.denominator))
    assert f"num_groups=4, init='swish', share_numerator={shared}" in repr(layer)


def test_groups_are_blocks_of_channels():
    layer = GroupRational(6, num_groups=3)
    with torch.no_grad():
        layer.denominator[1, 0] = 1.0
    y = layer(torch.ones(2, 6))
    assert torch.equal(y, torch.tensor([1.0, 1, 0.5, 0.5, 1, 1]).expand(2, -1))


def test_channels_on_the_second_axis():
    layer = GroupRational(6, num_groups=3, init="tanh", channel_dim=1)
    x = torch.randn(2, 6, 4, 5)
    assert torch.allclose(layer(x), torch.tanh(x), atol=1e-2)
    nchw = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(layer(nchw), layer(x))


def test_it_imitates_a_function():
    layer = GroupRational(6, num_groups=3, share_numerator=False, channel_dim=1)
    error = layer.imitate(F.silu)
    x = torch.linspace(-10, 10, 300).view(1, 6, 50)
    assert ((layer(x) - F.silu(x)).abs() / (0.1 + x.abs())).max() <= error + 1e-6 < 5e-4
    with torch.no_grad():
        layer.numerator.zero_()
    layer.reset_parameters()
    assert torch.allclose(layer(x), F.silu(x), atol=5e-3)
    assert "silu" in layer.init


def test_it_leaves_the_identity():
    torch.manual_seed(0)
    layer = GroupRational(8, num_groups=2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-2)
    x = torch.randn(64, 8)
    first = None
    for _ in range(20):
        loss = F.mse_loss(layer(x), torch.tanh(x))
        first = first or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5 * first
    assert layer.denominator.abs().min() > 0


def test_reset_starts_again():
    layer = GroupRational(8, init="swish")
    start = {k: v.clone() for k, v in layer.state_dict().items()}
    nn.init.ones_(layer.numerator)
    layer.reset_parameters()
    assert all(torch.equal(v, start[k]) for k, v in layer.state_dict().items())


def test_device_and_dtype():
    layer = GroupRational(8, device="meta", dtype=torch.float64)
    assert layer.numerator.is_meta
    assert layer.denominator.dtype == torch.float64
    assert layer(torch.empty(2, 8, device="meta")).shape == (2, 8)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_channels": 10}, "num_channels=10 cannot be split into num_groups=8"),
        ({"num_channels": 8, "num_groups": 0}, "num_groups=0"),
        ({"num_channels": 8, "init": "silly"}, "init='silly' is not a preset; legal: identity, swish"),
        ({"num_channels": 8, "form": "pade"}, "form='pade' is not known; legal: kernel, paper"),
    ],
)
def test_refusals(kwargs, message):
    with pytest.raises(ValueError, match=message):
        GroupRational(**kwargs)


def test_a_wrong_width_is_refused():
    with pytest.raises(ValueError, match="num_channels=8 at axis -1"):
        GroupRational(8)(torch.ones(2, 16))
