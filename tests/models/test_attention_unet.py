"""Attention U-Net: its count, its gate."""

import pytest
import torch
import torch.nn.functional as F

import kanvision as kv
from kanvision.models.attention_unet import AttentionGate, AttentionUNet

from .structure import batch_norm, conv, conv_pair


def test_published_count():
    """34.9 M: the U-Net that upsamples by a convolution (34.53 M) and a gate on each of four skips."""
    widths = [64, 128, 256, 512, 1024]
    unet = conv(64, 1, 1)
    for fan_in, width in zip([3, *widths], widths, strict=False):
        unet += conv_pair(fan_in, width)
    for width in widths[:-1]:
        unet += conv(2 * width, width) + batch_norm(width) + conv_pair(2 * width, width)
    gates = sum(
        2 * (conv(w, w // 2, 1) + batch_norm(w // 2)) + conv(w // 2, 1, 1) + batch_norm(1)
        for w in widths[:-1]
    )
    with torch.device("meta"):
        counts = [
            sum(p.numel() for p in kv.create_model(name).parameters())
            for name in ("unet_xlarge", "attention_unet_base")
        ]
    assert counts == [unet, unet + gates] == [34_527_041, 34_878_573]
    assert [f"{count / 1e6:.2f}" for count in counts] == ["34.53", "34.88"]


def test_a_gate_is_the_written_formula():
    torch.manual_seed(0)
    gate = AttentionGate(6).double().eval()
    x, skip = torch.randn(2, 2, 6, 5, 4, dtype=torch.float64)

    def pointwise(part, maps):
        return part[1](F.conv2d(maps, part[0].weight, part[0].bias))

    hidden = (pointwise(gate.of_signal, x) + pointwise(gate.of_skip, skip)).relu()
    weight = 1 / (1 + (-pointwise(gate.weight, hidden)).exp())
    assert weight.shape == (2, 1, 5, 4)
    torch.testing.assert_close(gate(x, skip), skip * weight)


def test_a_closed_gate_lets_nothing_of_the_skip_through():
    torch.manual_seed(0)
    model = AttentionUNet((4, 6, 8), in_chans=1).eval()
    stage = model.decoder[-1]
    x, skip = torch.randn(1, 6, 8, 8), torch.randn(1, 4, 16, 16)
    assert not torch.allclose(stage(x, skip), stage(x, 2 * skip))
    torch.nn.init.constant_(stage.gate.weight[1].bias, -1e4)
    torch.testing.assert_close(stage(x, skip), stage(x, 2 * skip))


def test_a_wrong_value_is_answered():
    with pytest.raises(ValueError, match=r"drop_path_rate=0\.1: AttentionUNet has no residual branches"):
        AttentionUNet(drop_path_rate=0.1)
