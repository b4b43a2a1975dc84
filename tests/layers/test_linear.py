"""Linear KAN layer: values, start values, norms, messages."""

import pytest
import torch
import torch.nn.functional as F

from kanvision.bases import BASES, create_basis
from kanvision.layers import INITS, KANLinear, create_activation
from kanvision.layers.activation import ACTIVATIONS
from tests.covering import cover


@pytest.mark.parametrize("basis", BASES)
def test_values_against_a_written_sum(basis):
    torch.manual_seed(0)
    layer = KANLinear(3, 5, basis, bias=True, dtype=torch.float64)
    with torch.no_grad():
        layer.bias.normal_()
    x = torch.randn(2, 4, 3, dtype=torch.float64)
    phi = layer.basis(x)
    weight = layer.basis_weight.view(5, 3, layer.basis.num_basis)
    expected = torch.einsum("bnik,oik->bno", phi, weight) + F.silu(x) @ layer.base_weight.T + layer.bias
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer(x[0, 0]), expected[0, 0])
    assert layer.kan_parameters == ("basis_weight",)


@pytest.mark.parametrize(("basis", "base_act"), cover(BASES, ["silu", None]))
def test_start_preserves_variance(basis, base_act):
    torch.manual_seed(0)
    layer = KANLinear(256, 256, basis, base_act=base_act)
    y = layer(torch.randn(256, 256))
    assert y.std().item() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("options", [{"basis_act": "silu"}, {"input_norm": "minmax"}, {"base_act": "gelu"}])
def test_start_sees_activations_and_norms(options):
    torch.manual_seed(0)
    y = KANLinear(256, 256, "legendre", **options)(torch.randn(256, 256))
    assert y.std().item() == pytest.approx(1.0, abs=0.15)


def test_branches_share_the_variance():
    torch.manual_seed(0)
    layer = KANLinear(256, 256)
    x = torch.randn(256, 256)
    base = F.silu(x) @ layer.base_weight.T
    assert base.square().mean().item() == pytest.approx(0.5, abs=0.06)
    assert (layer(x) - base).square().mean().item() == pytest.approx(0.5, abs=0.06)


def test_published_starts():
    torch.manual_seed(0)
    sizes = {"in_features": 64, "out_features": 96, "basis": "legendre"}  # K = 4
    layers = {init: KANLinear(**sizes, init=init) for init in INITS}
    for init in ("kaiming", "kaiming_joint", "normal"):
        assert layers[init].base_weight.abs().max().item() == pytest.approx((3 / 64) ** 0.5, rel=0.01)
    assert layers["kaiming"].basis_weight.abs().max().item() == pytest.approx((3 / 256) ** 0.5, rel=0.01)
    assert layers["kaiming_joint"].basis_weight.abs().max().item() == pytest.approx(
        (3 / 256 / 96) ** 0.5, rel=0.01
    )
    assert layers["normal"].basis_weight.std().item() == pytest.approx(1 / 256, rel=0.03)


def test_functions_without_input_get_bounded_weights():
    layer = KANLinear(8, 8, "rbf", basis_kwargs={"grid_range": (50.0, 60.0)})
    assert layer.basis_weight.abs().max() < 1e2


def test_bases_that_learn_get_one_set_per_feature():
    assert KANLinear(3, 2, "wavelet").basis.shift.shape == (3, 1)
    assert KANLinear(3, 2, "wavelet").no_weight_decay() == {"basis.shift", "basis.scale"}
    fixed = KANLinear(3, 2, "relu", basis_kwargs={"num_channels": None})
    assert dict(fixed.basis.named_parameters()) == {}
    basis = create_basis("relu", num_channels=3)
    assert KANLinear(3, 2, basis).basis is basis
    with pytest.raises(ValueError, match="num_channels=3, the layer has 4"):
        KANLinear(4, 2, basis)


def test_reset_parameters_starts_anew():
    torch.manual_seed(0)
    layer = KANLinear(4, 3, "gram", bias=True, norm="layer", act="prelu", init="normal")
    start = {name: value.clone() for name, value in layer.state_dict().items()}
    with torch.no_grad():
        for value in layer.state_dict().values():
            value.fill_(7.0)
    torch.manual_seed(0)
    layer.reset_parameters()
    fresh = layer.state_dict()
    assert all(not fresh[name].eq(7).any() for name in fresh)
    for name in ("bias", "norm.weight", "norm.bias", "basis.recurrence"):
        assert torch.equal(fresh[name], start[name])


def test_device_and_dtype():
    layer = KANLinear(4, 3, "wavelet", device="meta", norm="batch", act="prelu")
    assert {tensor.device.type for tensor in layer.state_dict().values()} == {"meta"}
    assert layer(torch.randn(2, 4, device="meta")).shape == (2, 3)
    layer.to_empty(device="cpu").reset_parameters()
    assert layer(torch.randn(2, 4)).isfinite().all()
    half = KANLinear(4, 3, norm="layer", act="prelu", dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    assert half(torch.randn(2, 4).bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("norm", ["batch", "instance", "group", "layer"])
def test_norms_on_tokens(norm):
    torch.manual_seed(0)
    layer = KANLinear(4, 6, norm=norm)
    y = layer(torch.randn(5, 7, 4))
    axes = {"batch": (0, 1), "instance": 1, "layer": 2, "group": (1, 2)}[norm]
    grouped = y if norm != "group" else y.unflatten(2, (2, 3)).transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(grouped.mean(axes), torch.zeros_like(grouped.mean(axes)), atol=1e-5, rtol=0)
    assert (layer.norm(torch.randn(5, 7, 6)).std() - 1).abs() < 0.1
    assert len(list(KANLinear(4, 6, norm=norm, norm_affine=False).norm.parameters())) == 0


def test_minmax_is_per_sample():
    layer = KANLinear(4, 3, "legendre", basis_kwargs={"squash": None}, input_norm="minmax")
    x = torch.randn(5, 4)
    torch.testing.assert_close(layer(x)[:2], layer(x[:2]))
    z = layer.input_norm(x)
    torch.testing.assert_close(z.amin(1), -torch.ones(5))
    torch.testing.assert_close(z.amax(1), torch.ones(5))
    constant = torch.full((2, 4), 3.0, requires_grad=True)
    layer(constant).sum().backward()
    assert constant.grad.isfinite().all()
    assert layer(torch.randn(0, 4)).shape == (0, 3)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_name_builds(name):
    assert create_activation(name)(torch.randn(3)).shape == (3,)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"in_features": 0}, "in_features=0"),
        ({"out_features": 0}, "out_features=0"),
        ({"basis": "nope"}, "basis='nope'"),
        ({"base_act": "nope"}, "base_act='nope'"),
        ({"act": "nope"}, "act='nope'"),
        ({"basis_act": "nope"}, "basis_act='nope'"),
        ({"norm": "minmax"}, "norm='minmax'.*batch, instance, group, layer"),
        ({"input_norm": "group"}, "input_norm='group'.*batch, instance, layer, minmax"),
        ({"init": "nope"}, "init='nope'.*variance_preserving"),
    ],
)
def test_messages(kwargs, message):
    with pytest.raises(ValueError, match=message):
        KANLinear(**{"in_features": 4, "out_features": 3, **kwargs})


def test_wrong_input():
    with pytest.raises(ValueError, match=r"in_features=4.*\(2, 3\)"):
        KANLinear(4, 3)(torch.randn(2, 3))
