"""Mamba: its formula, its causality, its start values and its parameters."""

import math

import pytest
import torch
import torch.nn.functional as F

from kanvision.layers.mamba import Mamba


def layer(width=6, **kwargs) -> Mamba:
    torch.manual_seed(0)
    return Mamba(width, **kwargs).double()


def test_it_is_the_written_formula():
    mixer, u = layer(num_states=3), torch.randn(2, 9, 6, dtype=torch.float64)
    x, z = (u @ mixer.expand.weight.T).chunk(2, dim=-1)
    padded = F.pad(x, (0, 0, 3, 0))
    taps = mixer.conv.weight[:, 0]  # (D, 4)
    x = F.silu(sum(padded[:, k : k + 9] * taps[:, k] for k in range(4)) + mixer.conv.bias)
    step, write, read = (x @ mixer.select.weight.T).split([1, 3, 3], dim=-1)
    step = F.softplus(step @ mixer.step.weight.T + mixer.step.bias)
    state, outputs = torch.zeros(2, 12, 3, dtype=torch.float64), []
    for n in range(9):
        rate = torch.exp(-step[:, n, :, None] * mixer.decay_log.exp())
        state = rate * state + (step[:, n] * x[:, n])[..., None] * write[:, n, None]
        outputs.append((state * read[:, n, None]).sum(-1) + mixer.skip * x[:, n])
    expected = (torch.stack(outputs, 1) * F.silu(z)) @ mixer.contract.weight.T
    torch.testing.assert_close(mixer(u), expected)


def test_a_token_sees_those_before_it_and_none_behind():
    mixer, u = layer(), torch.randn(1, 80, 6, dtype=torch.float64)
    before = mixer(u)
    moved = (mixer(torch.cat([u[:, :40], u[:, 40:41] + 1, u[:, 41:]], 1)) - before).abs().amax(-1)[0]
    assert moved[:40].max() == 0
    assert moved[40:].min() > 0


@torch.no_grad()
def test_start_values():
    mixer = Mamba(32)
    steps = F.softplus(mixer.step.bias)
    assert 1e-3 <= steps.min() < 5e-3
    assert 5e-2 < steps.max() <= 1e-1
    torch.testing.assert_close(mixer.decay_log.exp(), torch.arange(1.0, 17).expand(64, 16))
    assert mixer.skip.eq(1).all()
    assert mixer.step.weight.abs().max() <= 2**-0.5
    assert mixer.no_weight_decay() == {"decay_log", "skip"}


@pytest.mark.parametrize("width", [6, 32, 512])
def test_number_of_parameters(width):
    """Maps in and out, taps with bias, the maps of steps, writes and reads, rates and skips."""
    with torch.device("meta"):
        mixer = Mamba(width)
    inner, rank = 2 * width, math.ceil(width / 16)
    count = 2 * inner * width + 5 * inner + inner * (rank + 32) + (rank + 1) * inner + 16 * inner + inner
    count += inner * width
    assert sum(p.numel() for p in mixer.parameters()) == count
    if width == 512:  # of the published layer
        assert count == 1_694_720
