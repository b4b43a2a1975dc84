"""Dropout and noise: what they do to values, where a layer puts them, and that evaluation is left alone."""

import pytest
import torch

from kanvision.layers import KANConv1d, KANConv2d, KANConv3d, KANLinear, NoiseInjection
from kanvision.layers.dropout import create_dropout
from kanvision.spec.models import DROP_KINDS, DROP_POSITIONS

CONVS = {1: KANConv1d, 2: KANConv2d, 3: KANConv3d}


def test_noise_reaches_a_share_of_the_values_with_the_size_of_its_channel():
    torch.manual_seed(0)
    scale = torch.tensor([0.5, 4.0]).view(1, 2, 1, 1)
    x = torch.randn(16, 2, 32, 32) * scale
    noise = NoiseInjection(p=0.25, alpha=0.1)(x) - x
    assert noise.ne(0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    sizes = [noise[:, c][noise[:, c] != 0].std().item() for c in range(2)]
    assert sizes == pytest.approx([0.05, 0.4], rel=0.05)


def test_noise_on_a_single_value_and_on_nothing_is_finite():
    noise = NoiseInjection(p=1.0)
    assert torch.equal(noise(torch.ones(1, 3, 1, 1)), torch.ones(1, 3, 1, 1))
    assert noise(torch.empty(0, 3, 2, 2)).shape == (0, 3, 2, 2)


def test_no_gradient_through_the_spread():
    x = torch.randn(4, 2, 3, 3, requires_grad=True)
    (grad,) = torch.autograd.grad(NoiseInjection(p=1.0)(x).sum(), x)
    torch.testing.assert_close(grad, torch.ones_like(x))


@pytest.mark.parametrize("kind", DROP_KINDS)
@pytest.mark.parametrize("ndim", [0, 1, 2, 3])
def test_kinds_keep_the_mean_and_stop_in_evaluation(kind, ndim):
    torch.manual_seed(0)
    shape = (512, 8) if ndim == 0 else (64, 8, *(4,) * ndim)
    drop = create_dropout(kind, 0.5, ndim)
    x = torch.ones(shape) + 0.01 * torch.randn(shape)
    y = drop(x)
    assert y.mean().item() == pytest.approx(1.0, abs=0.15)
    assert not torch.equal(x, y)
    if kind == "channel" and ndim:
        whole = y.flatten(2).ne(0)
        assert torch.equal(whole.all(2), whole.any(2))
    assert torch.equal(drop.eval()(x), x)


@pytest.mark.parametrize("ndim", [0, 1, 2, 3])
@pytest.mark.parametrize("position", DROP_POSITIONS)
@pytest.mark.parametrize("basis", ["gram", "bspline"])
def test_places(ndim, position, basis):
    """Each place drops what it says: seen through a layer that is replaced piece by piece."""
    torch.manual_seed(0)
    options = {"basis": basis, "drop_rate": 0.5, "drop_position": position, "drop_kind": "element"}
    layer = KANLinear(6, 4, **options) if ndim == 0 else CONVS[ndim](6, 4, 1, **options)
    x = torch.randn(5, 6, *(3,) * ndim)
    quiet = layer.eval()(x)
    layer.train()
    torch.manual_seed(1)
    noisy = layer(x)
    assert not torch.allclose(noisy, quiet)
    with torch.no_grad():
        layer.basis_weight.zero_()
    base = layer.eval()(x)
    layer.train()
    # Only what the base branch sees or gives can move it.
    assert torch.allclose(layer(x), base) == (position in ("branch", "squashed", "basis"))


def test_dropping_the_basis_drops_the_constant_function_too():
    torch.manual_seed(0)
    conv = KANConv2d(8, 1, 1, basis="legendre", base_act=None, drop_rate=0.5, drop_position="basis")
    with torch.no_grad():
        conv.basis_weight.zero_()
        conv.basis_weight[:, ::4] = 1.0  # P_0 of each channel
    y = conv(torch.randn(64, 8, 1, 1))
    assert y.unique().numel() > 2
    assert set((y / 2).round(decimals=4).unique().tolist()) <= {float(n) for n in range(9)}


def test_squashed_channel_dropout_drops_whole_channels_in_both_layouts():
    torch.manual_seed(0)
    conv = KANConv2d(16, 16, 1, basis="chebyshev", basis_kwargs={"degree": 1}, base_act=None, groups=16)
    conv.drop = create_dropout("channel", 0.5, 2)
    conv.drop_rate, conv.drop_position = 0.5, "squashed"
    with torch.no_grad():
        conv.basis_weight.zero_()
        conv.basis_weight[:, 1::2] = 1.0  # T_1 alone: y = dropped tanh(x)
    x = torch.rand(4, 16, 5, 5) + 0.5
    for layout in (torch.contiguous_format, torch.channels_last):
        zero = conv(x.contiguous(memory_format=layout)).flatten(2).eq(0)
        assert torch.equal(zero.all(2), zero.any(2))
        assert 0 < zero.float().mean() < 1


@pytest.mark.parametrize("position", DROP_POSITIONS)
def test_recomputation_draws_the_same_numbers(position):
    """The backward pass must see the mask of the forward pass: gradients equal those of kept tensors."""
    grads = []
    for checkpoint in (False, True):
        torch.manual_seed(0)
        conv = KANConv2d(
            4, 3, 3, padding=1, basis="gram", drop_rate=0.5, drop_position=position, checkpoint=checkpoint
        )
        x = torch.randn(2, 4, 5, 5, requires_grad=True)
        torch.manual_seed(1)
        y = conv(x)
        torch.rand(3)  # other draws between the passes
        y.square().sum().backward()
        grads.append([x.grad, *(p.grad for p in conv.parameters())])
    for kept, again in zip(*grads, strict=True):
        torch.testing.assert_close(kept, again)


def test_messages():
    with pytest.raises(ValueError, match=r"drop_position='middle'.*input, branch, squashed, basis, output"):
        KANLinear(2, 2, drop_position="middle")
    with pytest.raises(ValueError, match=r"drop_kind='gauss'.*channel, element, noise"):
        KANLinear(2, 2, drop_kind="gauss")
    with pytest.raises(ValueError, match=r"drop_rate=1.0"):
        KANLinear(2, 2, drop_rate=1.0)
    with pytest.raises(ValueError, match="p=2"):
        NoiseInjection(p=2)
