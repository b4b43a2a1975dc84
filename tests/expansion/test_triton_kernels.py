"""GPU kernels, generated and written ones, run by NumPy in Triton's interpreter where there is no GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).parents[1]
CASES = ("expansion/triton_cases.py", "ops/rational_kernel_cases.py", "ops/karat_kernel_cases.py")


def test_kernels():
    """In one process of their own: Triton chooses its interpreter when it is imported."""
    pytest.importorskip("triton")
    interpreted = {} if torch.cuda.is_available() else {"TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            *(str(TESTS / case) for case in CASES),
        ],
        env={**os.environ, **interpreted, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout
