"""Signals that stop a program: it says what becomes of its work, and its exit status is theirs, never 0."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

__all__ = ["STOPPING", "Stopped", "leave_lost_terminal", "saying", "stopping"]

STOPPING = tuple(
    signal.Signals[name]
    for name in ("SIGTERM", "SIGHUP", "SIGINT", "SIGUSR2", "SIGUSR1")
    if name in signal.Signals.__members__  # Windows has not all of them
)
OUTPUTS = (1, 2)


class Stopped(SystemExit):
    """A signal has stopped the program.

    Args:
        number: The signal.
        status: Exit status; by default that of the signal, and of SIGTERM for those of the user.

    Attributes:
        name: Name of the signal.
        text: What becomes of the work, and how to go on; None: not known yet, empty: nothing is to be said.
    """

    def __init__(self, number: int, status: int | None = None) -> None:
        self.name = signal.Signals(number).name
        own = number if self.name in ("SIGINT", "SIGHUP") else signal.SIGTERM
        super().__init__(128 + own if status is None else status)
        self.text: str | None = None


@contextmanager
def stopping(text: str, *, quiet: bool = False) -> Iterator[None]:
    """End the block, which is a whole program, at a signal: say so in one line, and exit.

    A signal that is ignored (`nohup`, a background job of a script) stays so. The exit status is that of the
    signal even where something within the block has swallowed it.

    Args:
        text: What is said where nothing within the block knows better (`saying`).
        quiet: Say nothing.

    Raises:
        Stopped: There was a signal.
    """
    received: list[int] = []

    def stop(number: int, frame: Any) -> None:
        leave_lost_terminal()
        again = bool(received)
        received.append(number)
        if not again or number == signal.SIGINT:  # somebody who waits for the end may press Ctrl-C again
            raise Stopped(number)

    handlers: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for listed in STOPPING:
            if signal.getsignal(listed) not in (signal.SIG_IGN, None):
                handlers[listed] = signal.signal(listed, stop)
    try:
        try:
            yield
        except Stopped:
            raise
        except BaseException as error:
            if received:
                raise Stopped(received[0]) from error
            raise
        if received:
            raise Stopped(received[0])
    except Stopped as stopped:
        if not quiet and stopped.text != "":
            with suppress(OSError):
                print(f"{stopped.name}: {stopped.text or text}", flush=True)
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def saying(text: str | Callable[[], str]) -> Iterator[None]:
    """Give a signal that stops the block this text, unless something within it has given one.

    Args:
        text: What becomes of the work, and how to go on; a function is asked when it comes to that.
    """
    try:
        yield
    except Stopped as stopped:
        if stopped.text is None:
            stopped.text = text if isinstance(text, str) else text()
        raise


def leave_lost_terminal() -> None:
    """Send output nowhere when its terminal is gone (SIGHUP): each write would be an error."""
    for descriptor in OUTPUTS:
        try:
            os.write(descriptor, b"")
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)
