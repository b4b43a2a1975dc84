"""The kernels of KArAt, run by numpy in triton's interpreter where there is no GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kanvision.ops.karat import Series
from kanvision.ops.karat_triton import get_fusion_obstacle

CASES = Path(__file__).with_name("karat_kernel_cases.py")


def test_kernels():
    """In a process of its own: triton chooses its interpreter when it is imported."""
    pytest.importorskip("triton")
    interpreted = {} if torch.cuda.is_available() else {"TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(CASES)],
        env={**os.environ, **interpreted, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout


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
