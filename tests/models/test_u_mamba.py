"""U-Mamba: its counts, where Mamba is, the residual block, its start."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import kanvision as kv
from kanvision.layers.mamba import Mamba
from kanvision.models.u_mamba import SIZES, MapMamba, ResidualBlock, UMamba

from .structure import conv, instance_norm, layer_norm


def map_mamba(width):
    inner, rank = 2 * width, math.ceil(width / 16)
    maps = 3 * inner * width + 5 * inner + inner * (rank + 2 * 16) + (rank + 1) * inner
    return layer_norm(width) + maps + 16 * inner + inner


def block(fan_in, width):
    convs = conv(fan_in, width) + conv(width, width) + 2 * instance_norm(width)
    return convs + (fan_in != width) * (conv(fan_in, width, 1, bias=False) + instance_norm(width))


@pytest.mark.parametrize(
    ("size", "mamba", "ours"),
    [
        ("base", "bottleneck", 86_144_001),
        ("base", "encoder", 91_828_993),
        ("small", "bottleneck", 63_323_649),
        ("small", "encoder", 67_312_897),
    ],
)
def test_counts(size, mamba, ours):
    """By structure. The U-KAN paper has 86.3 M and names no variant: the nearest has .16 M, .2 %, less."""
    widths = SIZES[size]["widths"]
    count = conv(3, widths[0]) + instance_norm(widths[0]) + conv(widths[0], 1, 1)
    for fan_in, width in zip([widths[0], *widths], widths, strict=False):
        count += block(fan_in, width) + block(width, width)
    for fan_in, width in zip(widths[1:], widths, strict=False):
        count += conv(fan_in, width, 2) + block(2 * width, width) + block(width, width)
    count += sum(map(map_mamba, widths if mamba == "encoder" else widths[-1:]))
    with torch.device("meta"):
        model = kv.create_model(f"u_mamba_{size}", mamba=mamba)
    assert sum(p.numel() for p in model.parameters()) == count == ours


def test_where_mamba_is():
    for mamba, stages in (("bottleneck", [2]), ("encoder", [0, 1, 2])):
        model = UMamba((4, 6, 8), mamba, depth=1)
        found = [n for n, stage in enumerate(model.encoder) if isinstance(stage[-1], MapMamba)]
        assert found == stages
        assert sum(isinstance(m, Mamba) for m in model.modules()) == len(stages)


def test_pixels_are_tokens_row_after_row():
    torch.manual_seed(0)
    mixer, maps = MapMamba(4), torch.randn(2, 4, 3, 5)
    tokens = mixer.mamba(mixer.norm(maps.permute(0, 2, 3, 1).reshape(2, 15, 4)))
    torch.testing.assert_close(mixer(maps), tokens.reshape(2, 3, 5, 4).permute(0, 3, 1, 2))


@pytest.mark.parametrize(("fan_in", "stride"), [(4, 1), (4, 2), (6, 1), (6, 2)])
def test_a_residual_block_is_the_written_formula(fan_in, stride):
    torch.manual_seed(0)
    part, x = ResidualBlock(fan_in, 4, stride).double(), torch.randn(2, fan_in, 6, 8, dtype=torch.float64)
    c1, c2 = part.conv1.conv, part.conv2.conv
    y = F.leaky_relu(F.instance_norm(F.conv2d(x, c1.weight, c1.bias, stride, 1)), 0.01)
    y = F.instance_norm(F.conv2d(y, c2.weight, c2.bias, 1, 1))
    skip = F.avg_pool2d(x, stride)
    if fan_in != 4:
        skip = F.instance_norm(F.conv2d(skip, part.skip[-1].conv.weight))
    torch.testing.assert_close(part(x), F.leaky_relu(skip + y, 0.01))


@torch.no_grad()
def test_start_values():
    torch.manual_seed(0)
    model = UMamba((32, 64), depth=2)
    for conv2d in (m for m in model.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)):
        assert conv2d.bias is None or conv2d.bias.eq(0).all()
    weight = model.encoder[1][0].conv2.conv.weight
    assert weight.std() == pytest.approx((2 / (1 + 0.01**2) / (9 * 64)) ** 0.5, rel=0.03)
    assert all(m.conv2.norm.weight.eq(1).all() for m in model.modules() if isinstance(m, ResidualBlock))
    begun = UMamba((4, 6), "encoder").double()
    part = begun.decoder[0].blocks[1]
    x = torch.randn(1, 4, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(part(x), F.leaky_relu(x, 0.01))


def test_small_images_reach_a_map_of_one_pixel():
    """Instance norm has nothing to average there; torch refuses it in training."""
    model = UMamba((4, 4, 4, 4))
    assert torch.isfinite(model(torch.randn(1, 3, 8, 8))).all()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"mamba": "decoder"}, "mamba='decoder' is not known; legal values: bottleneck, encoder"),
        ({"widths": (8,)}, r"widths=\(8,\) must have at least two stages"),
        ({"depth": 0}, "depth=0 must be at least 1"),
    ],
)
def test_a_wrong_value_is_answered(kwargs, message):
    with pytest.raises(ValueError, match=message):
        UMamba(**kwargs)
