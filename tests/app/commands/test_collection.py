"""Garbage collection of a program: its libraries are left out, the objects of its runs are not."""

import subprocess
import sys

CODE = """
import gc, weakref
from kanvision.app.commands.collection import pause_collection

class Run:
    pass

def make():
    run = Run()
    run.itself = run
    return weakref.ref(run)

with pause_collection():
    assert not gc.isenabled()
    import decimal
assert gc.isenabled()
assert gc.get_freeze_count() > 1000
before = gc.get_freeze_count()
with pause_collection():  # the second run of a sweep
    assert gc.isenabled()
    run = make()
assert gc.get_freeze_count() == before
gc.collect()
assert run() is None
"""


def test_a_second_run_is_freed() -> None:
    """Detects a sweep that keeps the networks of all its runs."""
    result = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
