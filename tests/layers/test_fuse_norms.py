"""Batch norms folded into single layers, and norms that stay."""

import pytest
import torch
from torch import nn

from kanvision.layers import (
    BottleneckKANConv2d,
    EdgeWaveletConv2d,
    KANConv1d,
    KANConv2d,
    KANLinear,
    MoEBottleneckKANConv2d,
    MoEKANConv2d,
    add_adapters,
    change_structure,
    fuse_norms,
)

NORM = {"norm": "batch", "act": "silu"}
LAYERS = {
    "gram": lambda: KANConv2d(4, 6, 3, basis="gram", padding=1, **NORM),
    "biased": lambda: KANConv2d(4, 6, 3, basis="bspline", bias=True, edge_scale=True, **NORM),
    "groups": lambda: KANConv2d(4, 6, 3, basis="fourier", groups=2, base_act=None, **NORM),
    "reflect": lambda: KANConv2d(4, 6, 3, basis="gram", padding=1, padding_mode="reflect", **NORM),
    "no affine": lambda: KANConv2d(4, 6, 3, basis="rbf", norm_affine=False, **NORM),
    "wavelets": lambda: EdgeWaveletConv2d(4, 6, 3, **NORM),
    "bottleneck": lambda: BottleneckKANConv2d(4, 6, 3, basis="gram", **NORM),
    "biased bottleneck": lambda: BottleneckKANConv2d(4, 6, 3, basis="gram", bias=True, **NORM),
    "mixture": lambda: MoEKANConv2d(4, 6, 3, basis="gram", num_experts=3, **NORM),
    "bottleneck mixture": lambda: MoEBottleneckKANConv2d(4, 6, 3, basis="gram", num_experts=3, **NORM),
    "plain": lambda: nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
}


def train_norms(model: nn.Module, x: torch.Tensor) -> nn.Module:
    """Give the norms statistics of inputs, and factors of both signs."""
    for _ in range(3):
        model(x)
    for name, parameter in model.named_parameters():
        if "norm" in name.split(".") or parameter.ndim == 1:
            nn.init.normal_(parameter)
    return model.eval()


@pytest.mark.parametrize("name", LAYERS)
def test_a_fused_layer_computes_the_same(name):
    torch.manual_seed(0)
    x = torch.randn(3, 4, 8, 8, dtype=torch.float64)
    layer = train_norms(LAYERS[name]().double(), x)
    wanted = layer(x)
    assert fuse_norms(layer) == []
    assert not any(isinstance(module, nn.BatchNorm2d) for module in layer.modules())
    torch.testing.assert_close(layer(x), wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: KANLinear(5, 7, "gram", norm="batch"), (9, 5)),
        (lambda: KANLinear(5, 7, "gram", norm="batch"), (3, 4, 5)),
        (lambda: KANConv1d(5, 7, 3, basis="gram", norm="batch"), (3, 5, 9)),
    ],
)
def test_tokens_and_lines(layer, shape):
    torch.manual_seed(0)
    x = torch.randn(shape)
    fused = train_norms(layer(), x)
    wanted = fused(x)
    assert fuse_norms(fused) == []
    torch.testing.assert_close(fused(x), wanted, rtol=1e-5, atol=1e-5)


def test_norms_that_stay():
    before = KANConv2d(4, 6, 3, basis="gram", input_norm="batch", norm="instance")
    transition = nn.Sequential(nn.BatchNorm2d(6), nn.SELU(), nn.Conv2d(6, 6, 1))
    own_batches = nn.Sequential(nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6, track_running_stats=False))
    model = nn.Sequential(before, transition, own_batches).eval()
    x = torch.randn(2, 4, 8, 8)
    wanted = model(x)
    assert fuse_norms(model) == ["0.input_norm", "1.0", "2.1"]
    assert torch.equal(model(x), wanted)


def test_what_is_refused():
    model = nn.Sequential(KANConv2d(4, 6, 3, basis="gram", **NORM))
    with pytest.raises(ValueError, match=r"call eval\(\) first"):
        fuse_norms(model)
    with pytest.raises(ValueError, match="layer='0' has no batch norm after a linear map"):
        change_structure(nn.Sequential(KANConv2d(4, 6, 3, basis="gram")), "fuse_norms", "0")
    add_adapters(model, adapter_rank=2)
    with pytest.raises(ValueError, match="call merge_adapters"):
        fuse_norms(model.eval())
