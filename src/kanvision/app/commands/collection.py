"""Garbage collection of a program: libraries are left out of it."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["pause_collection"]


@contextmanager
def pause_collection() -> Iterator[None]:
    """Import libraries without garbage collection; later collections leave out the objects that they made.

    The imports of torch and Lightning make a million objects, none of them garbage. Collections during the
    imports and the last one at exit would take a third of the processor time of a short run.
    """
    if gc.get_freeze_count():  # a further run of a sweep: its objects are freed with it
        yield
        return
    enabled = gc.isenabled()
    gc.disable()
    atexit.register(gc.freeze)  # before the libraries register their functions, so after these have run
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
