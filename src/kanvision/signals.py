"""Signals that stop a program, with a message on how to resume and an exit status that is never 0."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

__all__ = ["STOP_SIGNALS", "Stopped", "handle_stop_signals", "leave_lost_terminal", "set_stop_message"]

STOP_SIGNALS = tuple(
    signal.Signals[name]
    for name in ("SIGTERM", "SIGHUP", "SIGINT", "SIGUSR2", "SIGUSR1")
    if name in signal.Signals.__members__  # Windows lacks some of them
)
OUTPUTS = (1, 2)


class Stopped(SystemExit):
    """Exit of the program after a signal.

    Args:
        number: Number of the signal.
        status: Exit status; by default that of the signal, and of SIGTERM for SIGUSR1 and SIGUSR2.

    Attributes:
        name: Name of the signal.
        text: State of the work and how to resume; None if not known yet, empty for no message.
    """

    def __init__(self, number: int, status: int | None = None) -> None:
        self.name = signal.Signals(number).name
        own = number if self.name in ("SIGINT", "SIGHUP") else signal.SIGTERM
        super().__init__(128 + own if status is None else status)
        self.text: str | None = None


@contextmanager
def handle_stop_signals(text: str, *, quiet: bool = False) -> Iterator[None]:
    """Exit the program in the context at a signal, with a message of one line.

    Ignored signals (`nohup`, background jobs of a script) remain ignored. The exit status is that of the
    signal even if the exception is suppressed inside the context.

    Args:
        text: Message, unless one is set inside the context by `set_stop_message`.
        quiet: Print no message.

    Raises:
        Stopped: The program received a signal.
    """
    received: list[int] = []

    def stop(number: int, frame: Any) -> None:
        leave_lost_terminal()
        again = bool(received)
        received.append(number)
        if not again or number == signal.SIGINT:  # Ctrl-C works again while the program ends
            raise Stopped(number)

    handlers: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for listed in STOP_SIGNALS:
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
        stopped.text = ""  # a context around this one prints no second message
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def set_stop_message(text: str | Callable[[], str]) -> Iterator[None]:
    """Set the message of a signal that stops the context, unless one is set inside of it.

    Args:
        text: State of the work and how to resume; a function is called at the signal.
    """
    try:
        yield
    except Stopped as stopped:
        if stopped.text is None:
            stopped.text = text if isinstance(text, str) else text()
        raise


def leave_lost_terminal() -> None:
    """Discard output after its terminal is closed (SIGHUP), because each write would be an error."""
    for descriptor in OUTPUTS:
        try:
            os.write(descriptor, b"")
        except OSError:
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, descriptor)
            os.close(devnull)
