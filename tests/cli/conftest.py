"""Runs the two programs as a user does: in a process of its own, in an empty folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def program(tmp_path):
    """Call `train.py` or `eval.py` in an empty folder; returns the finished process."""

    def call(script: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        process = subprocess.run(
            [sys.executable, str(REPOSITORY / script), *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160"},
        )
        if check:
            assert process.returncode == 0, process.stdout + process.stderr
        return process

    return call
