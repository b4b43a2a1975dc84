"""Derivatives of the mother wavelets against differences of their values."""

import pytest
import torch

from kanvision.expansion.define import TensorVocabulary
from kanvision.ops.wavelet import WAVELETS


@pytest.mark.parametrize("kind", WAVELETS)
def test_derivative_is_the_limit_of_differences(kind):
    # Fine about 0, where quotients give way to series; off 0 and the ends of the supports, where kinks are.
    near = torch.linspace(-0.2, 0.2, 400, dtype=torch.float64)
    far = torch.linspace(-14, 14, 1777, dtype=torch.float64)
    ends = torch.tensor([0.0, 1.0, 4 * torch.pi], dtype=torch.float64)
    z = torch.cat([near, far[((far.abs()[:, None] - ends).abs() > 1e-3).all(1)]])
    h = 1e-4

    def value(z):
        return WAVELETS[kind].value(TensorVocabulary(z), z)

    slope = (8 * (value(z + h) - value(z - h)) - (value(z + 2 * h) - value(z - 2 * h))) / (12 * h)
    z.requires_grad_()
    (derivative,) = torch.autograd.grad(value(z).sum(), z)
    torch.testing.assert_close(derivative, slope, atol=1e-9, rtol=1e-8)
