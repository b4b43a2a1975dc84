"""VGG-KAN: where convolutions, poolings and attention are."""

import pytest
import torch
from torch import nn

import kanvision as kv
from kanvision.layers import BottleneckKANConv2d, KANConv2d, KANSelfAttention2d
from kanvision.models.vgg_kan import DEPTHS, VERSIONS, VGGKAN


def pattern(model) -> list[str]:
    """Published notation: output channels, M for max pooling, SA for attention."""
    words = []
    for stage in model.stages:
        for layer in stage:
            if isinstance(layer, nn.MaxPool2d):
                words.append("M")
            elif isinstance(layer, KANSelfAttention2d):
                words.append("SA")
            else:
                words.append(str(layer.out_channels))
    return words


PATTERNS = {
    (11, "v1"): "16 M 32 M 64 64 M 128 128 M 128 128",
    (13, "v2"): "16 16 M 32 32 M 64 64 M 128 128 M 128 128 M 128 128",
    (16, "v3"): "16 16 M 32 32 M 64 64 64 M 128 128 128 M 128 128 128 M 128 256",
    (19, "v4"): "16 16 M 32 32 M 64 64 64 64 M 128 128 128 128 M 128 128 128 128 M 256 256",
}


@pytest.mark.parametrize(("size", "version"), PATTERNS)
def test_order_of_layers(size, version):
    with torch.device("meta"):
        model = kv.create_model(f"vgg_kan_{size}", version=version)
    assert pattern(model) == PATTERNS[size, version].split()
    reductions = [info["reduction"] for info in model.feature_info]
    assert reductions == [2**i for i in range(len(DEPTHS[size]) + bool(VERSIONS[version]))]


@pytest.mark.parametrize(("version", "last"), [("v1", "M"), ("v4", "256")])
def test_features_reach_a_thirty_second_of_the_side(version, last):
    with torch.device("meta"):
        model = kv.create_model("vgg_kan_11", version=version, features_only=True)
    assert model.feature_info.reduction() == [1, 2, 4, 8, 16, 32]
    assert pattern(model.model)[-1] == last


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({"pool_attention": True}, "16 M 32 M 64 64 SA M 128 128 SA M 128 128"),
        (
            {"pool_attention": True, "version": "v4"},
            "16 M 32 M 64 64 M 128 128 SA M 128 128 SA M 256 256",
        ),
        ({"last_attention": True, "version": "v4"}, "16 M 32 M 64 64 M 128 128 M 128 128 M 256 SA"),
        ({"last_attention": True, "version": "v3"}, "16 M 32 M 64 64 M 128 128 M 128 128 M 128 SA"),
    ],
)
@pytest.mark.parametrize("form", ["plain", "bottleneck", "moe_bottleneck"])
def test_places_of_attention(kwargs, expected, form):
    with torch.device("meta"):
        model = kv.create_model("vgg_kan_11", form=form, **kwargs)
    assert pattern(model) == expected.split()


def test_the_head_fits_behind_attention_that_keeps_the_width():
    # published v3 says 256 channels where attention leaves 128
    model = kv.create_model(
        "vgg_kan_11", version="v3", last_attention=True, width_scale=1 / 16, num_classes=3
    )
    assert model.num_features == 8
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 3)


@pytest.mark.parametrize(
    "kwargs", [{}, {"plain": True}, {"preset": "wavkan", "basis": "wavelet"}], ids=["kan", "plain", "wavkan"]
)
def test_attention_trains(kwargs):
    torch.manual_seed(0)
    model = VGGKAN(
        depths=(1, 1, 1, 1, 1),
        pool_attention=True,
        last_attention=True,
        attention_reduction=2,
        attention_kwargs={"num_heads": 2},
        width_scale=1 / 16,
        num_classes=3,
        **kwargs,
    )
    attentions = [module for module in model.modules() if isinstance(module, KANSelfAttention2d)]
    assert [(a.channels, a.width, a.num_heads) for a in attentions] == [(4, 2, 2), (8, 4, 2), (8, 4, 2)]
    model(torch.randn(4, 3, 32, 32)).square().mean().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


def test_attention_projects_in_the_form_of_the_network():
    with torch.device("meta"):
        bottleneck = kv.create_model("vgg_kan_11", form="bottleneck", dim_reduction=4, last_attention=True)
        published = kv.create_model("vgg_kan_11", last_attention=True, attention_kwargs={"parity": True})
    *_, attention = bottleneck.stages[-1]
    assert {type(layer) for layer in attention.projections.values()} == {BottleneckKANConv2d}
    assert attention.projections["q"].inner_width == 128 // 4
    *_, attention = published.stages[-1]
    assert attention.parity
    assert len(attention.projections) == 3
    assert isinstance(attention.projections["q"], KANConv2d)


@pytest.mark.parametrize("pool_size", [7, (2, 3)])
def test_positions_before_the_classifier(pool_size):
    model = kv.create_model("vgg_kan_11", pool_size=pool_size, width_scale=1 / 16, num_classes=3)
    height, width = (pool_size, pool_size) if isinstance(pool_size, int) else pool_size
    assert model.get_classifier().in_features == 8 * height * width == model.head_hidden_size
    for size in (224, 32):
        assert model.eval()(torch.randn(1, 3, size, size)).shape == (1, 3)


def test_what_is_not_legal_is_named():
    with pytest.raises(ValueError, match="version='v5' is not known; legal values: v1, v2, v3, v4"):
        VGGKAN(version="v5")
    with pytest.raises(ValueError, match=r"depths=\(1, 2\) must have one number for each of 5 stages"):
        VGGKAN(depths=(1, 2))
