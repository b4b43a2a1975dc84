"""Runs a program that gets a signal at a place: `signal_run.py <place> <signal> <script> <words>`.

A place is `module:name`, a function, or `module:class.name`, a method; the signal comes at its first call.
"""

import functools
import importlib
import os
import runpy
import signal
import sys
from typing import Any


def send_at(target: str, number: int) -> None:
    """Replace the function by one that sends the signal first."""
    module, _, path = target.partition(":")
    owner: Any = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    function = getattr(owner, name)
    sent = []

    @functools.wraps(function)
    def sending(*args: Any, **options: Any) -> Any:
        if not sent:
            sent.append(number)
            os.kill(os.getpid(), number)
        return function(*args, **options)

    setattr(owner, name, sending)


if __name__ == "__main__":
    target, name, *words = sys.argv[1:]
    send_at(target, signal.Signals[name])
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")
