"""UNeXt: its counts, the shift, the block and the order of ReLU and upsampling."""

import pytest
import torch
import torch.nn.functional as F

import kanvision as kv
from kanvision.models.unext import ShiftedMlp, UNeXt, shift

from .structure import batch_norm, conv, layer_norm, linear


@pytest.mark.parametrize(
    ("size", "widths", "published"),
    [("base", (16, 32, 128, 160, 256), 1_471_921), ("small", (8, 16, 32, 64, 128), 253_561)],
)
def test_published_counts(size, widths, published):
    """1.47 M and .25 M: one convolution and norm a stage, but for the last, which has no norm."""
    first, second, third, fourth, fifth = widths
    count = conv(first, 1, 1)
    for fan_in, width in ((3, first), (first, second), (second, third)):
        count += conv(fan_in, width) + batch_norm(width)
    for fan_in, width in ((third, fourth), (fourth, fifth)):
        count += conv(fan_in, width) + layer_norm(width)
    for width in (fourth, fifth, fourth, third):  # a block has its norm, and one follows it
        count += 2 * layer_norm(width) + 2 * linear(width, width) + conv(width, width, groups=width)
    for fan_in, width in ((fifth, fourth), (fourth, third), (third, second), (second, first)):
        count += conv(fan_in, width) + batch_norm(width)
    count += conv(first, first)
    with torch.device("meta"):
        model = kv.create_model(f"unext_{size}")
    assert sum(p.numel() for p in model.parameters()) == count == published


@pytest.mark.parametrize("channels", [3, 5, 8, 13])
@pytest.mark.parametrize("dim", [1, 2])
def test_shift(dim, channels):
    """Groups of ceil(C / 5) channels move by -2 to 2, also where the map is smaller than the move."""
    x = torch.randn(2, 4, 1, channels) if dim == 1 else torch.randn(2, 1, 3, channels)
    expected, size = torch.zeros_like(x), -(-channels // 5)
    for c in range(channels):
        move = c // size - 2
        for index in range(x.shape[dim]):
            if 0 <= index - move < x.shape[dim]:
                expected.select(dim, index)[..., c] = x.select(dim, index - move)[..., c]
    torch.testing.assert_close(shift(x, dim), expected)
    tiny = torch.randn(1, 1, 1, 5)
    assert shift(tiny, dim).ne(0).sum() == 1


def test_a_block_is_the_written_formula():
    torch.manual_seed(0)
    mlp = ShiftedMlp(10).double()
    x = torch.randn(2, 5, 4, 10, dtype=torch.float64)
    y = shift(x, 1) @ mlp.linear1.weight.T + mlp.linear1.bias
    maps = F.conv2d(y.permute(0, 3, 1, 2), mlp.conv.weight, mlp.conv.bias, padding=1, groups=10)
    y = F.gelu(maps).permute(0, 2, 3, 1)
    torch.testing.assert_close(mlp(x), shift(y, 2) @ mlp.linear2.weight.T + mlp.linear2.bias)


def test_maps_are_enlarged_before_they_are_cut_at_zero():
    """The two do not commute: U-KAN cuts before, UNeXt after."""
    torch.manual_seed(0)
    model = UNeXt((16, 12, 16), num_classes=2).eval()
    found = []
    model.head.register_forward_pre_hook(lambda _, args: found.append(args[0]))
    model.decoder[-1].register_forward_hook(lambda _, args, maps: found.append(maps))
    model(torch.randn(1, 3, 32, 64))
    narrow, wide = found
    assert narrow.min() < 0
    torch.testing.assert_close(wide, F.interpolate(narrow, scale_factor=2, mode="bilinear").relu())


def test_wrong_widths_are_answered():
    with pytest.raises(ValueError, match=r"embed_dims=\(8, 4\) must be three positive widths"):
        UNeXt((8, 4))
    with pytest.raises(ValueError, match=r"stem_dims=None must be two positive widths; embed_dims\[0\]=4"):
        UNeXt((4, 4, 4))
