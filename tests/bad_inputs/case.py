"""One bad input: how it is made, how it is given to the program, and what the answer must say."""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kanvision.config import check_command_line

__all__ = ["CONF", "Case", "answer", "environment", "typed"]

CONF = Path(__file__).resolve().parents[2] / "conf"
CLEAN = (
    "WORLD_SIZE",
    "RANK",
    "LOCAL_RANK",
    "TORCHELASTIC_RUN_ID",
    "SLURM_JOB_ID",
    "SLURM_NTASKS",
    "SLURM_PROCID",
)
NO_HELP = re.compile(r"\nexpected tree:.*|\nHelp: python .*", re.DOTALL)


@dataclass(frozen=True)
class Case:
    """A bad input.

    Attributes:
        what: In words, for the table.
        give: Makes it in an empty folder, and gives it to the program.
        words: What the answer must hold.
    """

    what: str
    give: Callable[[Path], object]
    words: tuple[str, ...]


def answer(case: Case) -> str:
    """What the program says, without the help that stands below it; paths begin at the case's folder."""
    with tempfile.TemporaryDirectory() as name, environment(dict.fromkeys(CLEAN)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        told = io.StringIO()
        folder = Path(name).resolve() / "here"
        folder.mkdir()
        try:
            with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
                case.give(folder)
        except SystemExit:
            text = told.getvalue()
        # Whatever the program raises here, train.py and eval.py show as text.
        except (ValueError, RuntimeError, OSError) as error:
            text = str(error)
        else:
            raise AssertionError(f"{case.what}: nothing was refused")
    return NO_HELP.sub("", text.replace(str(folder), "…")).strip()


@contextlib.contextmanager
def environment(changes: dict[str, str | None]) -> Iterator[None]:
    """Variables for a while; None: not set."""
    before = {name: os.environ.get(name) for name in changes}
    try:
        _set(changes)
        yield
    finally:
        _set(before)


def _set(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def typed(line: str, program: str = "train") -> Callable[[Path], object]:
    """A command line; `{}` in it stands for the case's folder."""
    return lambda folder: check_command_line(
        program, [word.replace("{}", str(folder)) for word in line.split()], CONF
    )
