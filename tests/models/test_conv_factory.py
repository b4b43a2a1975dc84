"""The factory of convolutions: which layer comes out for which words."""

import itertools

import pytest
import torch
from torch import nn

import kanvision as kv
from kanvision.bases import BASES
from kanvision.layers import PRESETS, EdgeWaveletConv2d, KANConv2d, KANLinear
from kanvision.models.conv_factory import ConvFactory
from kanvision.spec.models import DROP_KINDS, DROP_POSITIONS


@pytest.mark.parametrize("layer", PRESETS)
def test_a_published_layer_is_as_its_preset_but_for_the_norm(layer):
    options = PRESETS[layer]
    conv = ConvFactory(basis=options["basis"], preset=layer, norm="layer", norm_affine=False).conv(
        4, 6, stride=2
    )
    assert isinstance(conv, EdgeWaveletConv2d if layer == "wavkan" else KANConv2d)
    assert conv.basis.name == options["basis"]
    assert (conv.base_act is None) == (options["base_act"] is None)
    assert conv.init == options["init"]
    assert conv.stride == (2, 2)
    for slot in ("norm", "input_norm"):
        norm = getattr(conv, slot)
        assert isinstance(norm, nn.LayerNorm) == (options.get(slot) in ("batch", "instance"))
        assert not list(norm.parameters())


@pytest.mark.parametrize("basis", BASES)
def test_the_layer_of_a_basis_is_the_published_one(basis):
    published = kv.layers.find_default_preset(basis)
    kwargs = PRESETS[published]["basis_kwargs"] if published else {}
    conv = ConvFactory(basis=basis).conv(2, 3)
    alike = kv.create_basis(basis, **{"num_channels": 2, **kwargs})
    assert conv.basis.num_basis == alike.num_basis
    assert conv.basis.extra_repr() == alike.extra_repr()


@pytest.mark.parametrize("norm", [None, "none", "batch", "instance"])
@pytest.mark.parametrize("affine", [True, False])
def test_norms(norm, affine):
    conv = ConvFactory(norm=norm, norm_affine=affine).conv(2, 4)
    kinds = {None: nn.Identity, "none": nn.Identity, "batch": nn.BatchNorm2d, "instance": nn.InstanceNorm2d}
    assert isinstance(conv.norm, kinds[norm])
    assert len(list(conv.norm.parameters())) == (2 if affine and norm in ("batch", "instance") else 0)


@pytest.mark.parametrize(("kind", "position"), list(itertools.product(DROP_KINDS, DROP_POSITIONS)))
def test_dropout_reaches_the_layer(kind, position):
    factory = ConvFactory(layer_drop_rate=0.25, layer_drop_kind=kind, layer_drop_position=position)
    conv = factory.conv(2, 4)
    assert (conv.drop_rate, conv.drop_position) == (0.25, position)
    names = {"channel": nn.Dropout2d, "element": nn.Dropout, "noise": kv.layers.NoiseInjection}
    assert isinstance(conv.drop, names[kind])
    assert factory.first(2, 4).drop_rate == 0


def test_without_words_dropout_is_the_published_one():
    for layer, options in PRESETS.items():
        conv = ConvFactory(basis=options["basis"], preset=layer, layer_drop_rate=0.1).conv(2, 2)
        assert conv.drop_position == options.get("drop_position", "branch")


def test_groups_spare_pointwise_and_first_convolutions():
    factory = ConvFactory(groups=4)
    assert factory.conv(8, 8).groups == 4
    assert factory.conv(8, 8, 1).groups == 1
    assert factory.first(3, 8).groups == 1
    assert factory.conv(8, 8, 7, groups=8).groups == 8
    assert [factory.width(width, 0.1) for width in (1, 50, 64)] == [4, 4, 8]


def test_plain_layer():
    conv = ConvFactory(plain=True, groups=2, layer_drop_rate=0.25).conv(4, 6, stride=2)
    assert [type(part) for part in conv] == [nn.Dropout2d, nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    assert conv.conv.bias is not None
    assert conv.conv.groups == 2
    assert conv(torch.randn(2, 4, 7, 7)).shape == (2, 6, 4, 4)
    with pytest.raises(ValueError, match="use head='linear'"):
        ConvFactory(plain=True).linear(4, 2)


@pytest.mark.parametrize("basis", BASES)
def test_linear_layer_of_the_same_kind(basis):
    layer = ConvFactory(basis=basis).linear(5, 3)
    assert isinstance(layer, KANLinear)
    assert layer.basis.name == basis
    assert layer(torch.randn(4, 5)).shape == (4, 3)


def test_linear_layer_with_a_degree_of_its_own():
    factory = ConvFactory(basis="chebyshev", basis_kwargs={"degree": 4})
    assert factory.conv(2, 2).basis.degree == 4
    assert factory.linear(2, 2).basis.degree == 4
    assert factory.linear(2, 2, {"degree": 2}).basis.degree == 2


def test_another_layer_keeps_what_its_basis_knows():
    factory = ConvFactory(basis="gram", basis_kwargs={"degree": 5, "num_points": 40}, norm="instance")
    other = factory.with_preset("kaln")
    conv = other.conv(2, 2, 1)
    assert (conv.basis.name, conv.basis.degree) == ("legendre", 5)
    assert isinstance(conv.norm, nn.InstanceNorm2d)
    assert factory.as_plain().is_plain


def test_further_arguments_of_the_layer_win():
    factory = ConvFactory(basis="rbf", layer_kwargs={"base_act": "gelu", "pad_space": "input"})
    conv = factory.conv(2, 2)
    assert type(conv.base_act).__name__ == "GELU"
    assert conv.pad_space == "input"


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"basis": "rbf", "preset": "kagn"}, "preset='kagn' has basis='gram', not 'rbf'"),
        ({"preset": "kang"}, "preset='kang' is not known; legal names: kan"),
        ({"basis": "grma"}, "basis='grma' is not known"),
        ({"norm": "batc"}, "norm='batc' is not known; legal values: None, batch"),
        ({"form": "fancy"}, "form='fancy' is not known; legal values: plain"),
        ({"plain": "no"}, "plain='no' is not known; legal values: True, False, 'pointwise'"),
        ({"plain": True, "form": "moe"}, "plain convolutions have no form='moe'"),
        ({"plain": True, "preset": "kagn"}, "plain convolutions have no preset='kagn'"),
        ({"groups": 0}, "groups=0 must be at least 1"),
    ],
)
def test_what_is_not_legal_is_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ConvFactory(**kwargs)
