"""Runs the two programs as a user does: in a process of its own, in an empty folder."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.programs import run_program

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def program(tmp_path):
    """Call `train.py` or `eval.py` in an empty folder; returns the finished process."""

    def call(script: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
        process = run_program([str(REPOSITORY / script), *arguments], tmp_path, environment)
        if check:
            assert process.returncode == 0, process.stdout + process.stderr
        return process

    return call
