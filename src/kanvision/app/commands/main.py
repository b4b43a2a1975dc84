"""Command `kanvision`: all programs of the package, for any folder."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import partial

import kanvision
from kanvision.config.cli import info
from kanvision.spec.evaluation import Mode
from kanvision.sweep import __main__ as sweep

from . import evaluate, train

__all__ = ["main"]

USAGE = """\
kanvision {version}: vision models with learned nonlinearities

    kanvision train    [group=choice ...] [key=value ...]      train a model
    kanvision eval     ckpt=<run> [mode=...] [key=value ...]   test, explain or analyze a trained model
    kanvision predict  ckpt=<run> input=<images>               masks, or the classes of images
    kanvision export   ckpt=<run> format=[onnx,...]            files for other programs
    kanvision sweep    <folder>                                table of a folder of runs
    kanvision info     [group[=choice] ...]                    cards of models, bases, data, experiments

Runs are written to the folder runs/ below the current one. Every program has --help.
"""
MODES: dict[str, Mode] = {"predict": "predict", "export": "export"}
"""Commands that are a mode of `kanvision eval`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program that the first word names; return the exit status."""
    words = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    name, rest = words[0], words[1:]
    if name in ("-h", "--help", "help"):
        print(USAGE.format(version=kanvision.__version__), end="")
        return 0
    if name == "--version":
        print(kanvision.__version__)
        return 0
    if name not in PROGRAMS:
        near = get_close_matches(name, PROGRAMS, n=1)
        guess = f"; did you mean kanvision {near[0]}?" if near else ""
        print(f"kanvision {name}: no such command{guess}\nlegal: {', '.join(PROGRAMS)}", file=sys.stderr)
        return 2
    return PROGRAMS[name](rest)


def _mode(mode: Mode) -> Callable[[Sequence[str]], int]:
    return lambda overrides: evaluate.run([f"mode={mode}", *overrides], words=["eval"])


PROGRAMS: dict[str, Callable[[Sequence[str]], int]] = {
    "train": partial(train.run, words=["train"]),
    "eval": partial(evaluate.run, words=["eval"]),
    **{name: _mode(mode) for name, mode in MODES.items()},
    "sweep": lambda words: sweep.main(words, "kanvision sweep"),
    "info": info.main,
}
"""Programs by the word that starts them: functions of the words after it that return the exit status."""
