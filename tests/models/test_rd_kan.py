"""RDNet of KAN convolutions: depthwise layers, gates, stochastic depth, padding."""

import pytest
import torch
from torch import nn

import kanvision as kv
from kanvision.layers import KANSelfAttention2d
from kanvision.models.conv_factory import ConvFactory
from kanvision.models.rd_kan import RDKAN, SIZES, ChannelGate, GrowingLayer, GrowingStage, Patchify


def layer(**kwargs) -> GrowingLayer:
    return GrowingLayer(ConvFactory(norm=None), 8, 3, **{"gated": True, **kwargs})


@pytest.mark.parametrize("basis", ["gram", "bspline", "wavelet"])
def test_every_depthwise_output_sees_its_own_channel_and_no_other(basis):
    # in the published layers a part of the outputs sees constant maps only, others those of other channels
    torch.manual_seed(0)
    conv = GrowingLayer(ConvFactory(basis=basis, norm=None), 8, 3, gated=False).layers[0]
    assert conv.groups == 8
    x = torch.randn(1, 8, 9, 9, requires_grad=True)
    for channel in range(8):
        (gradient,) = torch.autograd.grad(conv(x)[:, channel].square().sum(), x)
        seen = gradient.abs().sum((0, 2, 3)) > 0
        assert seen.nonzero().flatten().tolist() == [channel]


def test_a_layer_begins_close_to_nothing_and_is_scaled():
    torch.manual_seed(0)
    growing = layer().eval()
    x = torch.randn(2, 8, 6, 6)
    torch.testing.assert_close(growing.gamma, torch.full((3,), 1e-6))
    with torch.no_grad():
        growing.gamma.copy_(torch.tensor([1.0, 2.0, 0.0]))
    y = growing.layers(x)
    torch.testing.assert_close(growing(x), y * torch.tensor([1.0, 2.0, 0.0]).view(-1, 1, 1))


def test_stochastic_depth_leaves_new_channels_out():
    torch.manual_seed(0)
    growing = layer(drop_path=0.5)
    x = torch.randn(64, 8, 4, 4)
    left_out = (growing(x) == 0).flatten(1).all(1)
    assert 10 < left_out.sum() < 54
    assert not (growing.eval()(x) == 0).flatten(1).all(1).any()
    model = kv.create_model("rd_kan_tiny", drop_path_rate=0.2, width_scale=1 / 16, depths=2)
    rates = [m.drop_path.drop_prob for m in model.modules() if isinstance(m, GrowingLayer)]
    torch.testing.assert_close(torch.tensor(rates), torch.linspace(0, 0.2, 14))


def test_gate_weighs_channels_by_their_mean():
    torch.manual_seed(0)
    gate = ChannelGate(ConvFactory(norm="layer"), 4).eval()
    x = torch.randn(2, 4, 5, 5)
    weights = gate(x) / x
    torch.testing.assert_close(weights, weights[..., :1, :1].expand_as(weights), rtol=1e-4, atol=1e-5)
    assert ((weights >= 0) & (weights <= 1)).all()
    torch.testing.assert_close(gate(x), gate(x.flip(-1)).flip(-1))


def test_patches_cover_the_image():
    torch.manual_seed(0)
    patchify = Patchify(nn.Conv2d(2, 3, 4, stride=4), 4)
    x = torch.randn(1, 2, 9, 8)
    assert patchify(x).shape == (1, 3, 3, 2)
    padded = torch.cat([x, x[:, :, -1:].expand(-1, -1, 3, -1)], dim=2)
    torch.testing.assert_close(patchify(x), patchify.conv(padded))
    torch.testing.assert_close(patchify(x[:, :, :8]), patchify.conv(x[:, :, :8]))


@pytest.mark.parametrize(("size", "stages", "gates"), [("tiny", 7, 15), ("small", 11, 27), ("large", 12, 30)])
def test_dense_stages_by_resolution(size, stages, gates):
    with torch.device("meta"):
        model = kv.create_model(f"rd_kan_{size}")
    assert [info["reduction"] for info in model.feature_info] == [4, 8, 16, 32]
    found = [m for m in model.modules() if isinstance(m, GrowingStage)]
    assert [stage[0].layers[2].out_channels for stage in found] == list(SIZES[size]["growths"])
    assert len(found) == stages
    assert sum(isinstance(m, ChannelGate) for m in model.modules()) == gates
    assert isinstance(model.head.norm, nn.LayerNorm)


def test_attention_behind_each_dense_stage():
    torch.manual_seed(0)
    model = RDKAN(
        growths=(4, 4),
        halvings=(1,),
        depths=1,
        stem_width=4,
        attention=True,
        attention_reduction=2,
        num_classes=3,
    )
    widths = [(m.channels, m.width) for m in model.modules() if isinstance(m, KANSelfAttention2d)]
    assert widths == [(8, 4), (12, 6)]
    model(torch.randn(2, 3, 16, 16)).square().mean().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


def test_what_is_not_legal_is_named():
    with pytest.raises(ValueError, match="groups=2: RDKAN's large kernels are depthwise already"):
        RDKAN(groups=2)
    with pytest.raises(ValueError, match=r"depths=\(1, 2\) must have one number for each of 7 dense stages"):
        RDKAN(depths=(1, 2))
