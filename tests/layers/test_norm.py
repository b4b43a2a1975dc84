"""Norms by name: what torch's own do not allow."""

import pytest
import torch

from kanvision.layers import create_norm
from kanvision.layers.norm import MinMaxNorm


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_instance_norm_leaves_a_single_position_as_it_is(ndim, affine, training):
    norm = create_norm("instance", 3, ndim, affine=affine).train(training)
    x = torch.randn(2, 3, *(1,) * ndim, requires_grad=True)
    torch.testing.assert_close(norm(x), x)
    if affine:
        with torch.no_grad():
            norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
            norm.bias.fill_(0.5)
        shape = (1, 3, *(1,) * ndim)
        torch.testing.assert_close(norm(x), x * norm.weight.view(shape) + 0.5)
    norm(x).sum().backward()
    assert x.grad.abs().min() > 0


@pytest.mark.parametrize("affine", [True, False])
def test_instance_norm_of_larger_maps_is_that_of_torch(affine):
    x = torch.randn(2, 4, 3, 5)
    plain = torch.nn.InstanceNorm2d(4, affine=affine)
    ours = create_norm("instance", 4, 2, affine=affine)
    assert isinstance(ours, torch.nn.InstanceNorm2d)
    assert plain.state_dict().keys() == ours.state_dict().keys()
    torch.testing.assert_close(ours(x), plain(x))


def test_extremes_of_groups_are_those_of_each_group():
    x = torch.randn(2, 6, 3, 5)
    want = torch.cat([MinMaxNorm()(part) for part in x.chunk(3, dim=1)], dim=1)
    torch.testing.assert_close(MinMaxNorm(num_groups=3)(x), want)
    assert not torch.allclose(MinMaxNorm()(x), want)
