"""The kernels of the group rational, run by numpy in triton's interpreter where there is no GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kanvision.ops.rational_triton import get_fusion_obstacle

CASES = Path(__file__).with_name("rational_kernel_cases.py")


def test_kernels():
    """In a process of its own: triton chooses its interpreter when it is imported."""
    interpreted = {} if torch.cuda.is_available() else {"TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", str(CASES)],
        env={**os.environ, **interpreted, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout


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
