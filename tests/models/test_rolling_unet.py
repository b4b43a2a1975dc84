"""Rolling-UNet: its counts, the roll, the mixer, its dropout."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import kanvision as kv
from kanvision.models.rolling_unet import SIZES, RolledMlp, RollingMixer, RollingUNet, roll

from .structure import batch_norm, conv, conv_pair, layer_norm, linear


@pytest.mark.parametrize(
    ("size", "published", "ours"),
    [("small", "1.78", 1_782_161), ("medium", "7.10", 7_096_353), ("large", "28.32", 28_320_833)],
)
def test_published_counts(size, published, ours):
    """The published code has one more norm in each mixer, which nothing reads."""
    first, second, third, fourth, fifth = SIZES[size]["widths"]

    def mixer(width):
        rolled = 4 * linear(width, width) + layer_norm(2 * width) + linear(2 * width, width)
        near = conv(width, width, groups=width) + conv(width, width, 1) + batch_norm(width)
        return rolled + near + linear(2 * width, width) + layer_norm(width)

    count = conv(first // 2, 1, 1)
    for fan_in, width in ((3, first), (first, second), (second, third)):
        count += conv_pair(fan_in, width)
    for fan_in, width in ((third, fourth), (fourth, fifth), (fifth, fourth)):
        count += conv(fan_in, width) + layer_norm(width)
    count += 2 * mixer(fourth) + mixer(fifth) + conv(fourth, third) + batch_norm(third)
    for fan_in, width in ((third, second), (second, first), (first, first // 2)):
        count += conv_pair(fan_in, width, inner=fan_in)
    with torch.device("meta"):
        model = kv.create_model(f"rolling_unet_{size}")
    assert sum(p.numel() for p in model.parameters()) == count == ours
    unread = 2 * layer_norm(fourth) + layer_norm(fifth)
    assert f"{(count + unread) / 1e6:.2f}" == published


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("dim", [1, 2])
def test_roll(dim, sign):
    x = torch.randn(2, 4, 3, 9)
    expected = torch.stack([x[..., c].roll(sign * c, dim) for c in range(9)], -1)
    torch.testing.assert_close(roll(x, dim, sign), expected, rtol=0, atol=0)


def test_a_mixer_is_the_written_formula():
    torch.manual_seed(0)
    mixer = RollingMixer(6).double().eval()
    for parameter in mixer.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, 5, 4, 6, dtype=torch.float64)

    def rolls(maps, axis, sign):
        return torch.stack([maps[..., c].roll(sign * c, axis) for c in range(6)], -1)

    paths = []
    for mlp, ((axis1, sign1), (axis2, sign2)) in zip(
        mixer.mlps, (((1, 1), (2, 1)), ((2, -1), (1, 1))), strict=True
    ):
        y = F.gelu(F.linear(rolls(x, axis1, sign1), mlp.linear1.weight, mlp.linear1.bias))
        paths.append(x + F.linear(rolls(y, axis2, sign2), mlp.linear2.weight, mlp.linear2.bias))
    far = x + mixer.join(mixer.norm(torch.cat(paths, -1)))
    near = mixer.conv_norm(mixer.convs[1](mixer.convs[0](x.permute(0, 3, 1, 2))).relu()).permute(0, 2, 3, 1)
    torch.testing.assert_close(mixer(x), mixer.out(torch.cat([far, near], -1)))


def test_a_rolled_mlp_reaches_across_the_map():
    torch.manual_seed(0)
    mlp = RolledMlp(8, ((1, 1), (2, 1)))
    for layer in (mlp.linear1, mlp.linear2):
        nn.init.normal_(layer.weight)
    x = torch.randn(1, 8, 8, 8)
    moved = x.clone()
    moved[0, 0, 0] += 1
    assert (mlp(moved) - mlp(x)).abs().amax(-1)[0].gt(1e-6).all()


def test_dropout_is_in_the_deepest_mixer_only():
    with torch.device("meta"):
        models = {size: RollingUNet(**SIZES[size]) for size in SIZES}
    for size, rate in (("small", 0.1), ("medium", 0.2), ("large", 0.3)):
        rates = [{m.p for m in mixer.modules() if type(m) is nn.Dropout} for mixer in models[size].mixers]
        assert rates == [{0.0}, {rate}, {0.0}]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"widths": (8, 8)}, r"widths=\(8, 8\) must have five stages"),
        ({"drop_path_rate": 0.1}, r"drop_path_rate=0\.1: RollingUNet has no residual branches"),
    ],
)
def test_a_wrong_value_is_answered(kwargs, message):
    with pytest.raises(ValueError, match=message):
        RollingUNet(**kwargs)
