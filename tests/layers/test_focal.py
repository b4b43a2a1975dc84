"""Focal modulation: the written formula, its depthwise levels, sizes."""

import pytest
import torch

from kanvision.layers import (
    BottleneckKANConv2d,
    KANFocalModulation1d,
    KANFocalModulation2d,
    KANFocalModulation3d,
    get_preset,
)

FOCALS = {1: KANFocalModulation1d, 2: KANFocalModulation2d, 3: KANFocalModulation3d}
GRAM = get_preset("kagn", norm="batch")


def focal(cls, *args, **kwargs):
    torch.manual_seed(0)
    return cls(*args, **{**GRAM, "dtype": torch.float64, **kwargs})


def count(layer):
    return sum(parameter.numel() for parameter in layer.parameters())


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("full_kan", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("post_norm", ["batch", None])
def test_is_the_written_formula(ndim, full_kan, normalize, post_norm):
    layer = focal(FOCALS[ndim], 4, full_kan=full_kan, normalize=normalize, post_norm=post_norm)
    layer.eval()
    x = torch.randn(2, 4, *[6, 5, 4][:ndim], dtype=torch.float64)
    y = layer.f(x)
    query, context, gates = y[:, :4], y[:, 4:8], y[:, 8:]
    assert gates.shape[1] == 3
    modulator = torch.zeros_like(context)
    for index in range(2):
        context = layer.levels[index](context)
        modulator = modulator + context * gates[:, index].unsqueeze(1)
    pooled = modulator.flatten(2).mean(2).reshape(2, 4, *[1] * ndim)
    modulator = modulator + pooled * gates[:, 2].unsqueeze(1)
    if normalize:
        modulator = modulator / 3
    torch.testing.assert_close(layer(x), layer.proj(layer.post_norm(query * layer.h(modulator))))


@pytest.mark.parametrize("degree", [3, 5])
def test_each_channel_of_a_level_sees_itself_and_nothing_else(degree):
    """In the published depthwise convolution a quarter of the channels sees no input at all."""
    layer = focal(KANFocalModulation2d, 8, basis_kwargs={"degree": degree}).eval()
    for level in layer.levels:
        x = torch.randn(1, 8, 7, 7, dtype=torch.float64, requires_grad=True)
        y = level(x)
        for channel in range(8):
            (grad,) = torch.autograd.grad(y[0, channel, 3, 3], x, retain_graph=True)
            seen = grad[0].abs().amax((1, 2))
            assert seen[channel] > 0
            assert seen[:channel].eq(0).all()
            assert seen[channel + 1 :].eq(0).all()


def test_kernels_grow():
    layer = KANFocalModulation2d(4, focal_window=5, focal_level=3, focal_factor=4, device="meta")
    assert [level.kernel_size for level in layer.levels] == [(5, 5), (9, 9), (13, 13)]
    even = KANFocalModulation2d(4, focal_window=4, focal_factor=1)
    assert even(torch.randn(2, 4, 7, 6)).shape == (2, 4, 7, 6)


def test_keeps_nothing_on_the_module():
    layer = focal(KANFocalModulation2d, 4)
    before = set(vars(layer))
    layer(torch.randn(2, 4, 6, 6, dtype=torch.float64))
    assert set(vars(layer)) == before
    assert not any(isinstance(value, torch.Tensor) for value in vars(layer).values())


@pytest.mark.parametrize(
    ("conv", "published"),
    [
        # at the four mixing maps of UKAGNet (depth 5): what its focal row counts more
        (None, 13_868_897 - 9_808_713),
        (BottleneckKANConv2d, 4_747_542 - 3_043_334),
    ],
)
def test_published_counts(conv, published):
    widths = (48, 96, 192, 384)
    assert sum(count(KANFocalModulation2d(w, conv=conv, **GRAM, device="meta")) for w in widths) == published


def test_plain_projections_count_less():
    layer = KANFocalModulation2d(8, full_kan=False, **GRAM, device="meta")
    kan = 5 * 8 * 8 + 4 + 2 * 8  # proj
    levels = 5 * 8 * (9 + 25) + 2 * (4 + 2 * 8)
    assert count(layer) == 9 * 19 + 9 * 8 + kan + levels + 2 * 8


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"channels": 0}, "channels=0"),
        ({"focal_window": 0}, "focal_window=0"),
        ({"focal_level": 0}, "focal_level=0"),
        ({"focal_factor": -1}, "focal_factor=-1"),
        ({"post_norm": "none"}, "post_norm='none'"),
        ({"basis": "gramm"}, "gramm"),
    ],
)
def test_messages(kwargs, message):
    with pytest.raises(ValueError, match=message):
        KANFocalModulation2d(**{"channels": 4, **kwargs})
