"""Wav-KAN with parameters for every edge, against its formula written out with loops."""

import pytest
import torch
import torch.nn.functional as F

from kanvision.layers import edge_wavelet
from kanvision.layers.edge_wavelet import EdgeWaveletConv1d, EdgeWaveletConv2d, EdgeWaveletConv3d


def loops(layer, x):
    groups, conv = layer.groups, {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[layer.ndim]
    ins, outs = layer.in_channels // groups, layer.out_channels // groups
    maps = []
    for o in range(layer.out_channels):
        total = 0.0
        for c in range(ins):
            u = x[:, (o // outs) * ins + c].unsqueeze(1)
            z = (u - layer.shift[o, c]) / torch.sqrt(layer.scale[o, c] ** 2 + 1e-6)
            total = total + conv(
                -z * torch.exp(-z.square() / 2),
                layer.basis_weight[o, c].view(1, 1, *layer.kernel_size),
                padding=1,
            )
        maps.append(total)
    y = conv(torch.cat(maps, 1), layer.mix_weight, groups=groups)
    return y + conv(F.silu(x), layer.base_weight, padding=1, groups=groups)


@pytest.mark.parametrize(
    ("cls", "size"), [(EdgeWaveletConv1d, (7,)), (EdgeWaveletConv2d, (5, 4)), (EdgeWaveletConv3d, (3, 4, 3))]
)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("budget", [1, 2**24])
def test_formula_in_slices_and_at_once(cls, size, groups, budget, monkeypatch):
    monkeypatch.setattr(edge_wavelet, "_BUDGET", budget)
    torch.manual_seed(0)
    layer = cls(4, 6, 3, padding=1, groups=groups, basis_kwargs={"kind": "dog"}).double()
    with torch.no_grad():
        layer.shift.normal_()
        layer.scale.uniform_(0.5, 2)
    x = torch.randn(2, 4, *size, dtype=torch.double, requires_grad=True)
    out = layer(x)
    expected = loops(layer, x)
    torch.testing.assert_close(out, expected)
    wanted = [x, layer.shift, layer.scale, layer.basis_weight, layer.mix_weight]
    torch.testing.assert_close(
        torch.autograd.grad(out.square().sum(), wanted, retain_graph=True),
        torch.autograd.grad(expected.square().sum(), wanted),
    )


def test_only_wavelets_and_one_for_each_edge():
    with pytest.raises(ValueError, match="basis='rbf'"):
        EdgeWaveletConv2d(2, 2, 3, basis="rbf")
    with pytest.raises(ValueError, match="num_wavelets=2"):
        EdgeWaveletConv2d(2, 2, 3, basis_kwargs={"num_wavelets": 2})
