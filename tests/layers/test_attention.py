"""Self-attention: plain softmax as oracle, the published form, residual, heads, sizes."""

from functools import partial

import pytest
import torch

from kanvision.layers import (
    BottleneckKANConv2d,
    KANConv2d,
    KANSelfAttention1d,
    KANSelfAttention2d,
    KANSelfAttention3d,
    MoEBottleneckKANConv2d,
    collect_auxiliary,
    get_preset,
)

ATTENTIONS = {1: KANSelfAttention1d, 2: KANSelfAttention2d, 3: KANSelfAttention3d}
GRAM = get_preset("kagn", norm="batch")


def attention(cls, *args, **kwargs):
    torch.manual_seed(0)
    layer = cls(*args, **{**GRAM, "dtype": torch.float64, **kwargs})
    with torch.no_grad():
        layer.gamma.fill_(0.7)
    return layer


def count(layer):
    return sum(parameter.numel() for parameter in layer.parameters())


def plain(layer, q, k, v):
    """Softmax over all positions, head by head."""
    outputs = []
    for parts in zip(*(part.flatten(2).chunk(layer.num_heads, 1) for part in (q, k, v)), strict=True):
        query, key, value = parts  # (B, D / heads, N)
        weights = (layer.scale * query.transpose(1, 2) @ key).softmax(2)  # (B, N, N)
        outputs.append(value @ weights.transpose(1, 2))
    return torch.cat(outputs, 1).reshape(v.shape)


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("num_heads", [1, 2])
@pytest.mark.parametrize("inner_projection", [None, 2])
def test_is_the_written_formula(ndim, num_heads, inner_projection):
    layer = attention(ATTENTIONS[ndim], 4, inner_projection, num_heads=num_heads).eval()
    assert layer.fused
    x = torch.randn(2, 4, *[5, 4, 3][:ndim], dtype=torch.float64)
    q, k, v = layer.projections["qkv"](layer.inner(x)).chunk(3, 1)
    assert layer.scale == (q.shape[1] / num_heads) ** -0.5
    expected = layer.post_norm(x + 0.7 * layer.outer(plain(layer, q, k, v)))
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("num_heads", [1, 2])
def test_parity_is_the_published_formula(num_heads):
    layer = attention(KANSelfAttention2d, 4, 2, parity=True, num_heads=num_heads).eval()
    assert layer.scale == 1.0
    x = torch.randn(2, 4, 5, 3, dtype=torch.float64)
    u = layer.inner(x)
    q, k, v = (layer.projections[name](u) for name in "qkv")
    torch.testing.assert_close(layer(x), layer.post_norm(0.7 * x + layer.outer(plain(layer, q, k, v))))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("norm", ["batch", "instance", None])
def test_one_convolution_is_three(groups, norm):
    """The fused convolution with the weights of three gives what they give."""
    options = {"groups": groups, "norm": norm}
    fused = attention(KANSelfAttention2d, 4, **options)
    three = attention(KANSelfAttention2d, 4, conv=KANConv2d, **options)
    assert fused.fused
    assert not three.fused
    parts = [three.projections[name] for name in "qkv"]
    with torch.no_grad():
        parts[1].basis.beta.copy_(parts[0].basis.beta)
        parts[2].basis.beta.copy_(parts[0].basis.beta)
        fused.projections["qkv"].basis.beta.copy_(parts[0].basis.beta)
        for name, value in fused.projections["qkv"].named_parameters():
            if not name.startswith("basis."):
                # Group by group: its share of q, of k and of v.
                shares = [part.get_parameter(name).chunk(groups) for part in parts]
                value.copy_(
                    torch.cat([shares[which][group] for group in range(groups) for which in range(3)])
                )
    x = torch.randn(2, 4, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(fused(x), three(x))


@pytest.mark.parametrize(
    ("options", "fused"),
    [
        ({}, True),
        ({"norm": "instance"}, True),
        ({"norm": "layer"}, False),  # would normalize queries, keys and values together
        ({"norm": "group"}, False),
        ({"parity": True}, False),
        ({"conv": BottleneckKANConv2d}, False),
    ],
)
def test_basis_is_computed_once_where_it_may_be(options, fused):
    layer = attention(KANSelfAttention2d, 4, **options)
    bases = [module for module in layer.modules() if hasattr(module, "num_basis")]
    assert len(bases) == (1 if fused else 3)


def test_starts_as_its_norm_with_a_way_around():
    torch.manual_seed(0)
    layer = KANSelfAttention2d(4, **GRAM)
    x = torch.randn(2, 4, 5, 3, requires_grad=True)
    torch.testing.assert_close(layer(x), layer.post_norm(x))
    layer(x).pow(3).sum().backward()
    assert layer.gamma.grad.ne(0).all()
    assert x.grad.ne(0).all()
    identity = KANSelfAttention2d(4, post_norm=None, **GRAM)
    torch.testing.assert_close(identity(x), x)


def test_every_position_sees_every_other():
    layer = attention(KANSelfAttention2d, 4, kernel_size=1, norm=None, post_norm=None)
    x = torch.randn(1, 4, 4, 3, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(layer(x)[0, 0, 0, 0], x)
    assert grad.abs().sum(1).gt(0).all()


@pytest.mark.parametrize(
    ("options", "published"),
    [
        # at the four mixing maps of UKAGNet (depth 5): what its self-attention row counts more
        ({"parity": True}, 36_252_925 - 9_808_713),
        ({"conv": partial(BottleneckKANConv2d, dim_reduction=4)}, 9_965_754 - 3_043_334),
    ],
)
def test_published_counts(options, published):
    widths = (48, 96, 192, 384)
    assert sum(count(KANSelfAttention2d(w, **options, **GRAM, device="meta")) for w in widths) == published


def test_count_of_the_attention_that_replaces_a_layer():
    """VGG11v4 with last_attention has it in the place of its last convolution."""
    options = get_preset("kagn", norm="batch", basis_kwargs={"degree": 5})
    conv = partial(BottleneckKANConv2d, dim_reduction=8)
    more = count(KANSelfAttention2d(512, conv=conv, **options, device="meta"))
    less = count(conv(512, 512, 3, **options, device="meta"))
    assert more - less == 12_547_232 - 7_252_115


def test_experts_inside_report_their_load():
    layer = KANSelfAttention2d(4, conv=partial(MoEBottleneckKANConv2d, num_experts=2, k=1), **GRAM)
    with collect_auxiliary() as losses:
        layer(torch.randn(2, 4, 5, 3))
    assert len(losses) == 3


def test_memory_grows_with_the_positions_not_their_square():
    layer = attention(KANSelfAttention2d, 4, kernel_size=1, dtype=torch.float32)
    kept = []
    for side in (16, 32):
        sizes = []

        def keep(tensor, sizes=sizes):
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            layer(torch.randn(1, 4, side, side, requires_grad=True))
        kept.append(sum(sizes))
    assert kept[1] < 4.5 * kept[0]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"channels": 0}, "channels=0"),
        ({"inner_projection": 0}, "inner_projection=0"),
        ({"num_heads": 3}, "num_heads=3 does not divide the 4 channels"),
        ({"groups": 3}, "groups=3 does not divide in_channels=4"),
        ({"stride": 2}, "padding='same' needs stride=1"),
        ({"post_norm": "none"}, "post_norm='none'"),
    ],
)
def test_messages(kwargs, message):
    with pytest.raises(ValueError, match=message):
        KANSelfAttention2d(**{"channels": 4, **kwargs})


def test_scale_can_be_given():
    x = torch.randn(2, 4, 5, 3, dtype=torch.float64)
    layer = attention(KANSelfAttention2d, 4, scale=0.0)
    values = layer.projections["qkv"](x).chunk(3, 1)[2]
    mean = values.mean((2, 3), keepdim=True)  # all positions weigh the same
    torch.testing.assert_close(layer(x), layer.post_norm(x + 0.7 * mean))
    assert not torch.allclose(layer(x), attention(KANSelfAttention2d, 4)(x))
