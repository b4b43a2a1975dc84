"""Inputs that the kernels of KArAt refuse; `expansion/test_triton_kernels.py` runs them."""

import pytest
import torch

from kanvision.ops.karat import Series
from kanvision.ops.karat_fused import get_fusion_obstacle


@pytest.mark.parametrize(
    ("series", "rank", "dtype", "words"),
    [
        (Series(1, base_act="silu"), 12, torch.float32, "no base activation"),
        (Series(1), None, torch.float32, "ends at rank=64"),
        (Series(1), 12, torch.float64, "compute in float32"),
        (Series(1), 12, torch.float32, "on cpu"),
    ],
)
def test_says_why_not(series, rank, dtype, words, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert words in get_fusion_obstacle(torch.zeros(1, 1, 3, 4, dtype=dtype), series, rank)
