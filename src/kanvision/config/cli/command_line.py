"""Check of the whole command line, before torch is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig

from kanvision.config.conf_source import register_conf
from kanvision.config.errors import (
    ConfigError,
    DisplayedError,
    Problem,
    exit_with_message,
    is_global_rank_zero,
)
from kanvision.config.experiments import GROUP
from kanvision.config.groups import ConfigGroups
from kanvision.config.plugins import load_plugins
from kanvision.config.program import key_reference, program
from kanvision.config.renames import print_old_names, rename_overrides
from kanvision.config.schema.root import EvalConfig, TrainConfig
from kanvision.config.schema.standalone import STANDALONE

from .compose import Composer, composer
from .help import experiment_cards, usage
from .override_checks import Root, check_overrides, to_hydra_spelling
from .sweeps import ParsedOverride, last_of_each

__all__ = ["CommandLine", "check_command_line", "read_command_line"]

ROOTS: dict[str, Root] = {
    "train": TrainConfig,
    "eval": EvalConfig,
    **{str(mode): root for mode, root in STANDALONE.items()},
}


class CommandLine(NamedTuple):
    """Checked command line."""

    argv: list[str]
    """Flags of Hydra, then overrides as Hydra reads them."""
    config: DictConfig | None = None
    """Composition of a single run; None where Hydra composes: for sweeps, and for flags such as `--cfg`."""


def check_command_line(config_name: str, argv: Sequence[str], config_dir: Path) -> CommandLine:
    """Check a command line; if it has problems, print all of them in one message and exit with status 2.

    Raises:
        DisplayedError: The command line has problems, which have been printed.
    """
    with exit_with_message(status=2):
        try:
            return read_command_line(config_name, argv, config_dir)
        except ConfigError as error:
            if is_global_rank_zero():
                print(error, file=sys.stderr)
                print(f"\nHelp: {program(config_name)} --help; every key: {key_reference()}", file=sys.stderr)
            raise DisplayedError(2, error) from None


def read_command_line(config_name: str, argv: Sequence[str], config_dir: Path) -> CommandLine:
    """Return a command line that has no problems.

    Args:
        config_name: `train` or `eval`.
        argv: Command line without the program's name.
        config_dir: The folder conf/.

    Raises:
        ConfigError: The command line has problems; the error has all of them.
        SystemExit: It asks for help, which has been printed.
    """
    job_name = config_name
    # argparse would read an override after a bare --info as its value, here or when Hydra reads the line
    argv = [
        "--info=all"
        if word in ("-i", "--info") and (not following[:1].isalpha() or "=" in following)
        else word
        for word, following in pairwise([*argv, ""])
    ]
    args, unknown = get_args_parser().parse_known_intermixed_args(argv)
    renamed, old_names = rename_overrides(args.overrides)
    print_old_names(old_names)
    if renamed:
        argv = [new for word in argv for new in renamed.get(word, [word])]
        args, unknown = get_args_parser().parse_known_intermixed_args(argv)
    home = Path(args.config_path).resolve() if args.config_path else config_dir
    folders = [Path(args.config_dir).resolve()] if args.config_dir else []
    load_plugins(args.overrides)
    register_conf([home, *folders])
    if int(os.environ.get("LOCAL_RANK", "0")) > 0 and any(word.startswith("hydra.run.dir=") for word in argv):
        return CommandLine(list(argv))  # started by rank 0, which has checked the command line
    if unsafe := _rerun_problems(args.experimental_rerun):
        raise ConfigError(unsafe, "the command line")
    experiments = _experiments(args.overrides) if config_name == "train" else []
    if args.help or (args.info == "all" and experiments):
        choices = ConfigGroups([home, *folders], config_name)
        print(experiment_cards(experiments, choices) if experiments else usage(config_name, choices))
        raise SystemExit(0)
    flags = [word for word in argv if word not in args.overrides]
    if config_name == "eval" and (mode := _find_standalone_mode(args.overrides)):
        config_name = mode
        flags.append(f"--config-name={config_name}")
    if args.hydra_help or args.info or args.cfg or args.shell_completion:
        _read_choices(args.overrides, ConfigGroups([home, *folders], config_name))
        return CommandLine([*flags, *args.overrides])
    name = (args.config_name or config_name).removesuffix(".yaml")
    problems = [_unknown_flag(word) for word in unknown]
    for folder in [home, *folders]:
        if not folder.is_dir():
            problems.append(
                Problem(("config-dir",), (str(folder),), "there is no such folder of configurations")
            )
    folders = [folder for folder in folders if folder.is_dir()]
    home = home if home.is_dir() else config_dir
    choices, root = ConfigGroups([home, *folders], name), ROOTS[config_name]
    with composer(name, home, folders, job_name) as composing:
        words = [_quote_choice(word, composing, choices) for word in args.overrides]
        found, config = check_overrides(root, words, composing, choices, multirun=args.multirun)
        problems += found
        if not problems:
            words = _last_of_each(words, root, composing)
    if problems:
        raise ConfigError(problems, "the command line")
    return CommandLine([*flags, *words], config)


def _rerun_problems(path: str | None) -> list[Problem]:
    """Return the problem of the flag that loads a run from a pickle."""
    if path is None:
        return []
    why = "a pickle can run any code, and nothing of it was loaded"
    fix = "type the overrides of that run again: .hydra/overrides.yaml in its folder lists them"
    return [Problem(("experimental-rerun",), (f"--experimental-rerun={path}",), why, fix)]


def _experiments(overrides: Sequence[str]) -> list[str]:
    """Return the experiments that a command line chooses."""
    values = [word.removeprefix(f"{GROUP}=") for word in overrides if word.startswith(f"{GROUP}=")]
    return [name.strip("'\"") for value in values for name in value.split(",")]


def _find_standalone_mode(overrides: Sequence[str]) -> str | None:
    """Return the mode of `eval.py` of a command without a checkpoint, if it needs none."""
    if any(word.startswith("ckpt=") for word in overrides):
        return None
    return next((mode for mode in STANDALONE if f"mode={mode}" in overrides), None)


def _read_choices(overrides: Sequence[str], choices: ConfigGroups) -> None:
    """Read chosen files, whose errors Hydra shows as tracebacks; ConfigError if one exceeds the limits."""
    for group, _, choice in (word.partition("=") for word in overrides):
        if group in choices.groups and choices.has(group, choice):
            choices.content(group, choice)


def _quote_choice(word: str, composing: Composer, choices: ConfigGroups) -> str:
    """Return `debug='nan'` for `debug=nan`, which Hydra would read as a number."""
    group, _, choice = word.partition("=")
    if group in choices.groups and choices.has(group, choice):
        return word if isinstance(composing.parse(word).value(), str) else f"{group}='{choice}'"
    return word


def _last_of_each(words: Sequence[str], root: Root, composing: Composer) -> list[str]:
    """Return the last override of each key, as Hydra reads it, and print which ones it replaces."""
    typed = [ParsedOverride(word, composing.parse(to_hydra_spelling(word, root))) for word in words]
    last = last_of_each(typed)
    for word in last:
        others = [other.text for other in typed if other.key == word.key and other not in last]
        if others and is_global_rank_zero():
            print(f"Note: {word.text} replaces {' '.join(others)}", file=sys.stderr)
    return [word.line for word in last]


def _unknown_flag(word: str) -> Problem:
    """Return the problem of a flag that does not exist."""
    setting = word.lstrip("-")
    fix = f"keys are written without dashes: {setting if '=' in setting else f'{setting}=<value>'}"
    return Problem((setting.partition("=")[0],), (word,), "no such flag", fix)
