"""KAN-U-Net, with and without residual blocks: published counts, mixers, forms, any basis."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import kanvision as kv
from kanvision.bases import BASES
from kanvision.layers import BottleneckKANConv2d, KANConv2d, KANFocalModulation2d, KANSelfAttention2d
from kanvision.models.kan_unet import KANUNet
from kanvision.models.res_kan_unet import ResKANUNet
from kanvision.spec.models import KANUNET_MIXERS
from tests.covering import cover

BASIS = {layer: options["basis"] for layer, options in kv.layers.PRESETS.items()}
BOTTLENECK = {"form": "bottleneck"}
ATTENTION = {"mixer": "attention", "attention_kwargs": {"parity": True}}
FOCAL = {"mixer": "focal"}


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def on_meta(name: str, **kwargs: Any) -> Any:
    with torch.device("meta"):
        return kv.create_model(name, **kwargs)


@pytest.mark.parametrize(
    ("name", "kwargs", "published"),
    [
        ("kan_unet_5", {}, 9_808_713),
        ("kan_unet_5", {"width_scale": 2}, 39_224_393),
        ("kan_unet_5", {"width_scale": 4}, 156_876_873),
        ("kan_unet_5", ATTENTION, 36_252_925),
        ("kan_unet_5", FOCAL, 13_868_897),
        ("kan_unet_5", BOTTLENECK, 3_043_334),
        ("kan_unet_5", {**BOTTLENECK, "width_scale": 2}, 12_002_166),
        ("kan_unet_5", {**BOTTLENECK, "width_scale": 4}, 47_944_057),
        ("kan_unet_5", {**BOTTLENECK, **ATTENTION}, 9_965_754),
        ("kan_unet_5", {**BOTTLENECK, **FOCAL}, 4_747_542),
        ("kan_unet_4", {}, 2_434_361),
        ("kan_unet_4", ATTENTION, 8_968_928),
        ("kan_unet_4", FOCAL, 3_468_983),
        ("kan_unet_4", BOTTLENECK, 788_982),
        ("kan_unet_4", {**BOTTLENECK, **ATTENTION}, 2_510_493),
        ("kan_unet_4", {**BOTTLENECK, **FOCAL}, 1_241_132),
    ],
)
def test_published_counts(name, kwargs, published):
    assert parameters(on_meta(name, **kwargs)) == published


@pytest.mark.parametrize(("name", "published"), [("kan_unet_5", 36_252_925), ("kan_unet_4", 8_968_928)])
def test_attention_with_one_basis_for_queries_keys_and_values(name, published):
    """The usual attention computes its basis once: the eight beta of two more bases are not there."""
    model = on_meta(name, mixer="attention")
    mixers = sum(isinstance(m, KANSelfAttention2d) for m in model.modules())
    assert parameters(model) == published - 8 * mixers


@pytest.mark.parametrize(
    ("layer", "kwargs", "published"),
    [
        ("kan", {}, 2_094_760),
        ("fastkan", {"basis_kwargs": {"num_centers": 5}}, 1_396_911),
        ("kaln", {}, 1_164_321),
        ("kacn", {}, 931_721),
        ("kagn", {}, 1_164_477),
        ("kagn", BOTTLENECK, 431_618),
    ],
)
def test_published_counts_with_residual_blocks(layer, kwargs, published):
    """In published networks all blocks of a stage but the first have the norms of the layer's default.

    These are instance norms without scale and shift, or batch norms with both for the bottleneck layer.
    """
    model = on_meta("res_kan_unet_18", preset=layer, basis=BASIS[layer], norm="instance", **kwargs)
    network = model.network
    later = [block for stage in (*network.encoder, network.middle, *network.decoder) for block in stage[1:]]
    norms = [m for block in later for m in block.modules() if isinstance(m, nn.InstanceNorm2d)]
    dropped = sum(parameters(norm) for norm in norms) if "form" not in kwargs else 0
    assert parameters(model) == published + dropped
    assert dropped in (0, 960)


@pytest.mark.parametrize("options", [{"basis_kwargs": {"degree": 5}}, {"norm": "batch"}, {"groups": 2}])
def test_every_block_has_the_arguments_of_its_layers(options):
    torch.manual_seed(0)
    model = ResKANUNet(width_scale=0.5, depths=(2, 2, 2, 2), **options)
    convs = [m for m in model.modules() if isinstance(m, KANConv2d)]
    assert {conv.basis.degree for conv in convs} == {options.get("basis_kwargs", {}).get("degree", 3)}
    assert {type(conv.norm) for conv in convs} == {nn.BatchNorm2d}
    wide = [conv for conv in convs[1:] if conv.kernel_size == (3, 3)]
    assert {conv.groups for conv in wide} == {options.get("groups", 1)}


def test_bottleneck_blocks_can_be_used():
    torch.manual_seed(0)
    model = ResKANUNet(block="bottleneck", depths=(1, 2, 1, 1), width_scale=0.25)
    logits = model(torch.randn(2, 3, 16, 24))
    assert logits.shape == (2, 1, 16, 24)
    logits.square().mean().backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]


@pytest.mark.parametrize(
    ("mixer", "form"), cover(KANUNET_MIXERS, ["plain", "bottleneck", "moe", "moe_bottleneck"])
)
def test_every_mixer_in_every_form(mixer, form):
    torch.manual_seed(0)
    model = KANUNet(depth=3, mixer=mixer, form=form, width_scale=0.25, num_experts=3, in_chans=2)
    kinds = [type(m) for m in model.modules()]
    assert kinds.count(KANSelfAttention2d) == (2 if mixer == "attention" else 0)
    assert kinds.count(KANFocalModulation2d) == (2 if mixer == "focal" else 0)
    assert (BottleneckKANConv2d in kinds) == form.endswith("bottleneck")
    logits = model(torch.randn(2, 2, 8, 12))
    assert logits.shape == (2, 1, 8, 12)
    with kv.layers.collect_auxiliary() as auxiliary:
        loss = model(torch.randn(2, 2, 8, 12)).square().mean()
    (loss + sum(auxiliary)).backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]


@pytest.mark.parametrize("mixer", KANUNET_MIXERS)
def test_the_plain_twin(mixer):
    model = KANUNet(depth=3, mixer=mixer, plain=True, width_scale=0.25)
    assert not [m for m in model.modules() if isinstance(m, kv.bases.Basis)]
    assert model(torch.randn(2, 3, 8, 12)).shape == (2, 1, 8, 12)


@pytest.mark.parametrize(("cls", "basis"), cover([KANUNet, ResKANUNet], list(BASES)))
def test_any_basis(cls, basis):
    torch.manual_seed(0)
    small = {"depths": (1, 1, 1, 1)} if cls is ResKANUNet else {"depth": 2, "layers": 1}
    model = cls(basis=basis, width_scale=0.125, **small)
    assert {m.basis.name for m in model.modules() if isinstance(m, KANConv2d)} == {basis}
    model(torch.randn(2, 3, 16, 8)).square().mean().backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]


@pytest.mark.parametrize("layers", [1, 3])
def test_is_the_written_formula(layers):
    torch.manual_seed(0)
    model = KANUNet(depth=3, layers=layers, width_scale=0.25).double().eval()
    assert [len(stage) for stage in (*model.encoder, *model.decoder)] == [layers] * 5
    x = torch.randn(1, 3, 8, 12, dtype=torch.float64)
    top = model.encoder[0](x)
    middle = model.encoder[1](top)
    y = model.encoder[2](middle)
    assert y.shape == (1, 16, 2, 3)
    for stage, skip in zip(model.decoder, (middle, top), strict=True):
        y = F.interpolate(y, skip.shape[2:], mode="bilinear", align_corners=True)
        y = stage(torch.cat([y, skip], 1))
    torch.testing.assert_close(model(x), model.head(y))


def test_arguments_reach_the_mixer():
    model = KANUNet(
        depth=2, mixer="focal", focal_kwargs={"focal_window": 5, "focal_level": 3}, width_scale=0.25
    )
    (focal,) = (m for m in model.modules() if isinstance(m, KANFocalModulation2d))
    assert [level.kernel_size for level in focal.levels] == [(5, 5), (7, 7), (9, 9)]
    model = KANUNet(depth=2, mixer="attention", attention_kwargs={"num_heads": 3}, width_scale=0.25)
    (attention,) = (m for m in model.modules() if isinstance(m, KANSelfAttention2d))
    assert attention.num_heads == 3


def test_the_first_convolution_drops_nothing():
    model = KANUNet(depth=2, width_scale=0.25, layer_drop_rate=0.1)
    convs = [m for m in model.modules() if isinstance(m, KANConv2d)]
    assert [conv.drop_rate for conv in convs] == [0, *[0.1] * (len(convs) - 1)]


@pytest.mark.parametrize(
    ("cls", "kwargs", "message"),
    [
        (
            KANUNet,
            {"mixer": "self-att"},
            "mixer='self-att' is not known; legal values: conv, attention, focal",
        ),
        (KANUNet, {"depth": 1}, "depth=1 must be at least 2"),
        (KANUNet, {"layers": 0}, "layers=0 must be at least 1"),
        (KANUNet, {"focal_kwargs": {"focal_level": 3}}, "mixer='conv' has no such arguments"),
        (KANUNet, {"widht": 3}, "KANUNet has no argument widht"),
        (KANUNet, {"drop_path_rate": 0.1}, "KANUNet has no residual branches"),
        (ResKANUNet, {"block": "wide"}, "block='wide' is not known; legal values: basic, bottleneck"),
        (ResKANUNet, {"depths": (1, 2)}, r"depths=\(1, 2\) must have one number for each of 4 stages"),
        (ResKANUNet, {"widht": 3}, "ResKANUNet has no argument widht"),
    ],
)
def test_a_wrong_value_is_answered(cls, kwargs, message):
    with pytest.raises(ValueError, match=message):
        cls(**kwargs)
