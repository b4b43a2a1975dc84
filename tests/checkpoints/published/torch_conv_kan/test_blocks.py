"""Published bottlenecks, mixtures and self-attention of torch-conv-kan, loaded, against their equations."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from kanvision.checkpoints import CheckpointError, load_official
from kanvision.layers import BottleneckKANConv2d, MoEBottleneckKANConv2d
from tests.checkpoints.published.reference_blocks import (
    published_attention,
    published_bottleneck,
    random_attention,
    random_bottleneck,
)
from tests.checkpoints.published.reference_layers import published_bottleneck_linear, random_bottleneck_linear

SOURCE = "torch-conv-kan"
KINDS = ("kagn", "relukan", "moe_kagn")
SIDE = {1: 11, 2: 7, 3: 5}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def same(got, want, kind="kagn"):
    # the published gate divides by a sum with 1e-6 added
    tolerance = 1e-5 if kind == "moe_kagn" else 1e-10
    torch.testing.assert_close(got, want, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_bottlenecks(kind, groups, ndim):
    state = random_bottleneck(kind, ndim, groups=groups)
    geometry = {"stride": 2, "padding": 1}
    layer = load_official(state, source=SOURCE, **geometry)
    x = torch.randn(2, 3 * groups, *(SIDE[ndim],) * ndim, dtype=torch.float64)
    with torch.no_grad():
        same(layer(x), published_bottleneck(kind, state, x, groups=groups, **geometry), kind)


@pytest.mark.parametrize("sizes", [(3, 4, 2), (16, 20, 16), (64, 32, 16), (128, 64, 16), (3, 140, 17)])
@pytest.mark.parametrize("kind", KINDS)
def test_inner_widths(kind, sizes):
    state = random_bottleneck(kind, 2, c=sizes[0], o=sizes[1], m=sizes[2], kernel=1, norm="batch")
    layer = load_official(state, source=SOURCE)
    assert layer.inner_width == sizes[2]
    x = torch.randn(2, sizes[0], 3, 3, dtype=torch.float64)
    with torch.no_grad():
        same(layer(x), published_bottleneck(kind, state, x), kind)


@pytest.mark.parametrize("pregate", [True, False])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_mixtures(k, pregate):
    state = random_bottleneck("moe_kagn", 2, groups=2, experts=4, pregate=pregate)
    layer = load_official(state, source=SOURCE, k=k, padding=1)
    assert isinstance(layer, MoEBottleneckKANConv2d)
    x = torch.randn(5, 6, 6, 6, dtype=torch.float64)
    with torch.no_grad():
        same(layer(x), published_bottleneck("moe_kagn", state, x, groups=2, k=k, padding=1), "moe_kagn")


@pytest.mark.parametrize("channels", [None, 6])
@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("kind", ["kagn", "relukan", "bottleneck_kagn", "bottleneck_relukan"])
def test_self_attention(kind, ndim, channels):
    groups = 2 if ndim == 2 else 1
    state = random_attention(kind, ndim, groups=groups, channels=channels)
    layer = load_official(state, source=SOURCE)
    x = torch.randn(2, channels or 4, *(SIDE[ndim] - 1,) * ndim, dtype=torch.float64)
    with torch.no_grad():
        same(layer(x), published_attention(kind, state, x, groups=groups))


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("affine", [True, False])
def test_norms_of_blocks_are_told_from_the_names(norm, affine):
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    with torch.no_grad():
        state = random_attention("bottleneck_kagn", 2, norm=norm, affine=affine)
        same(load_official(state, source=SOURCE)(x), published_attention("bottleneck_kagn", state, x))
        state = random_bottleneck("kagn", 2, c=4, norm=norm, affine=affine)
        same(load_official(state, source=SOURCE)(x), published_bottleneck("kagn", state, x))
    with pytest.raises(ValueError, match="norm="):
        load_official(state, source=SOURCE, norm="instance" if norm == "batch" else "batch")


@pytest.mark.parametrize("sizes", [(4, 3, 3), (200, 40, 25), (9, 5, 2)])
@pytest.mark.parametrize("act", ["silu", "gelu"])
def test_fully_connected_bottlenecks(act, sizes):
    state = random_bottleneck_linear(*sizes)
    layer = load_official(state, source=SOURCE, act=act)
    x = torch.randn(3, sizes[0], dtype=torch.float64)
    with torch.no_grad():
        same(layer(x), published_bottleneck_linear(state, x, getattr(F, act)))


BLOCKS = {
    **{kind: partial(random_bottleneck, kind, 2, groups=2, norm="batch", pregate=True) for kind in KINDS},
    "attention": partial(random_attention, "kagn", 2, channels=6),
    "bottleneck attention": partial(random_attention, "bottleneck_kagn", 2, channels=6),
    "fully connected": partial(random_bottleneck_linear, 5, 4, 3),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_every_tensor_is_needed_and_no_other_is(name):
    state = BLOCKS[name]()
    for key in state:
        with pytest.raises(CheckpointError):
            load_official({k: v for k, v in state.items() if k != key}, source=SOURCE)
        for shape in [(), (0,), (1,), (7,), (2, 2), (0, 2, 3, 3), (1, 1, 1, 1), (2, 1, 1, 5, 2, 2, 1)]:
            if shape != state[key].shape:
                with pytest.raises(CheckpointError):
                    load_official(state | {key: torch.zeros(shape)}, source=SOURCE)
    with pytest.raises(CheckpointError, match="1 unexpected: alien"):
        load_official(state | {"alien": torch.zeros(1)}, source=SOURCE)


def test_damage_is_named_at_once():
    state = random_attention("bottleneck_kagn", 2, channels=6)
    del state["proj_k.out_proj.0.weight"]
    del state["outer_proj.bias"]
    state["proj_v.beta_weights"] = torch.zeros(9)
    state["alien"] = torch.zeros(1)
    with pytest.raises(CheckpointError) as refusal:
        load_official(state, source=SOURCE)
    message = str(refusal.value)
    assert "2 missing: proj_k.out_proj.0.weight, outer_proj.bias" in message
    assert "1 unexpected: alien" in message
    assert "1 of another shape: proj_v.beta_weights (9,), not (5,)" in message


def test_options_of_blocks():
    with pytest.raises(ValueError, match=r"stride=.*self-attention"):
        load_official(random_attention("kagn", 2), source=SOURCE, stride=2)
    with pytest.raises(ValueError, match=r"k=2: a published kagn bottleneck has the options stride"):
        load_official(random_bottleneck("kagn", 2), source=SOURCE, k=2)
    assert isinstance(load_official(random_bottleneck("kagn", 2), source=SOURCE), BottleneckKANConv2d)
