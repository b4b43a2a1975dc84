"""Inputs that the kernels of the group rational refuse; `expansion/test_triton_kernels.py` runs them."""

import pytest
import torch

from kanvision.ops.rational_fused import get_fusion_obstacle


@pytest.mark.parametrize(
    ("dtype", "coefficients", "words"),
    [
        (torch.float32, (7, 4), "degrees up to 5 and 4"),
        (torch.float32, (6, 5), "degrees up to 5 and 4"),
        (torch.float8_e5m2, (6, 4), "no torch.float8_e5m2"),
        (torch.float32, (6, 4), "x is on cpu"),
    ],
)
def test_says_why_not(dtype, coefficients, words, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    a, b = (torch.zeros(1, width) for width in coefficients)
    assert words in get_fusion_obstacle(torch.zeros(2, 8).to(dtype), a, b)
