"""Problems of a configuration, with reason and correction, and the exit that prints them."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from operator import attrgetter

from .schema.base import Section
from .schema.keys import format_yaml

__all__ = [
    "ConfigError",
    "DisplayedError",
    "Problem",
    "as_config_error",
    "disk_error",
    "exit_with_message",
    "is_global_rank_zero",
]

OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


@dataclass(frozen=True)
class Problem:
    """Problem of a configuration or a command line.

    Attributes:
        keys: Dotted keys of the settings, the wrong one first.
        given: Setting of each key, as typed or as in a file.
        why: Reason.
        fix: Correction; may be empty.
    """

    keys: tuple[str, ...]
    given: tuple[str, ...]
    why: str
    fix: str = ""

    def __post_init__(self) -> None:
        assert len(self.keys) == len(self.given)

    def typed_as(self, *given: str) -> Problem:
        """Return the problem with other settings, such as overrides as typed or the name of a file."""
        return replace(self, given=given)

    def lines(self) -> list[str]:
        """Return the problem as lines of text."""
        return [
            line
            for part in (", ".join(dict.fromkeys(self.given)), self.why, self.fix)
            for line in part.splitlines()
            if line
        ]


class ConfigError(ValueError):
    """Error of a configuration, with all its problems.

    Args:
        problems: All problems.
        where: Source of the configuration, for the first line of the message.
    """

    def __init__(self, problems: Sequence[Problem], where: str = "the configuration") -> None:
        self.problems = tuple(problems)
        self.where = where
        super().__init__(self._text())

    @classmethod
    def at(cls, config: Section, keys: Sequence[str], why: str, fix: str = "") -> ConfigError:
        """Return the error of the values that a configuration has at some keys."""
        given = tuple(f"{key}={format_yaml(attrgetter(key)(config))}" for key in keys)
        return cls([Problem(tuple(keys), given, why, fix)])

    def _text(self) -> str:
        count = len(self.problems)
        blocks = [f"{count} problem{'s' if count > 1 else ''} in {self.where}:"]
        for number, problem in enumerate(self.problems, 1):
            first, *rest = problem.lines()
            blocks.append("\n".join([f"{number:>3}. {first}", *(f"     {line}" for line in rest)]))
        return "\n".join(blocks)


@contextmanager
def as_config_error(config: Section, *keys: str) -> Iterator[None]:
    """Raise the errors of a constructor as a problem of the settings that it takes.

    Libraries raise TypeError, AssertionError, RuntimeError and more for a setting that does not fit.

    Raises:
        ConfigError: The block has raised an exception.
    """
    try:
        yield
    except Exception as error:
        raise ConfigError.at(config, keys, str(error) or repr(error)) from error


def is_global_rank_zero() -> bool:
    """Return True if this process has rank 0 of torchrun, Slurm, or the launcher of Lightning."""
    ranks = (os.environ.get(name, "0") for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"))
    return all(rank == "0" for rank in ranks)


def disk_error(error: BaseException) -> OSError | None:
    """Return the error of a full or read-only disk that an error comes from, if any."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in OF_THE_DISK:
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


class DisplayedError(SystemExit):
    """Exit of the program after its reason has been printed."""

    def __init__(self, status: int, error: Exception) -> None:
        super().__init__(status)
        self.error = error


@contextmanager
def exit_with_message(*kinds: type[Exception], status: int = 1) -> Iterator[None]:
    """Print an error that the user can correct as one block of text on stderr, and exit.

    Such errors are `kinds`, a full disk, and each ValueError that kanvision raises, because its message names
    a setting and the legal values. With HYDRA_FULL_ERROR=1 in the environment the exception passes, so that
    its traceback is printed.

    Raises:
        DisplayedError: One of them was raised, and its text has been printed.
    """
    try:
        yield
    except Exception as error:
        is_shown = isinstance(error, kinds) or _is_ours(error) or disk_error(error) is not None
        if not is_shown or os.environ.get("HYDRA_FULL_ERROR", "0") != "0":
            raise
        if is_global_rank_zero():
            with suppress(OSError):  # the disk of stderr may be full too
                print(f"\n{_message(error)}", file=sys.stderr, flush=True)
        # An exit passes Hydra, which would wrap any other exception in a traceback of its own.
        raise DisplayedError(status, error) from None


def _is_ours(error: Exception) -> bool:
    """Return True if an error is a ValueError raised in kanvision."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    module = str(frame.f_globals.get("__name__"))
    return isinstance(error, ValueError) and module.startswith(f"{__name__.partition('.')[0]}.")


def _message(error: Exception) -> str:
    """Return the message of an exception, without the traceback of a loader process before it."""
    if isinstance(error, OSError) and error.errno in OF_THE_DISK:
        return f"The disk cannot store a file ({error}): free some space, then run the same command again"
    return str(error).rpartition(f"{type(error).__name__}: ")[2].rstrip()
