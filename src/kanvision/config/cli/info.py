"""Program `kanvision info`: cards of models, bases, data sets and experiments, and the list of all keys."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from kanvision.config.cards import tables
from kanvision.config.conf_folder import CONF
from kanvision.config.errors import ConfigError, Problem, exit_with_message
from kanvision.config.experiments import GROUP
from kanvision.config.groups import ConfigGroups
from kanvision.config.plugins import load_plugins
from kanvision.config.program import program, with_programs
from kanvision.config.schema.keys import format_yaml, keys_by_name
from kanvision.config.schema.root import TrainConfig
from kanvision.config.suggestions import closest

from .help import experiment_cards
from .reference import document

__all__ = ["main"]

GROUPS = ("model", "basis", "data", GROUP)
"""Groups with cards."""
USAGE = f"""\
kanvision info                      names of all models, bases, data sets and tables of experiments
kanvision info <group>=<choice>     a card, for example model=kat or {GROUP}=kat/imagenet_tiny
kanvision info <group>              names of one group: {", ".join(GROUPS)}
kanvision info keys                 every key with its type, legal values, default and meaning
kanvision info plugins=[my_package] ...     the same with a plugin
"""
WIDTH = 115


def main(words: Sequence[str]) -> int:
    """Print the cards and lists that the words name; return the exit status.

    Args:
        words: `<group>`, `<group>=<choice>` or `keys`; none: the lists of all groups.
    """
    if any(word in ("-h", "--help") for word in words):
        print(USAGE, end="")
        return 0
    with exit_with_message(ConfigError, status=2):
        load_plugins(words)
    words = [word for word in words if not word.startswith("plugins=")]
    choices = ConfigGroups([CONF])
    with exit_with_message(ConfigError, status=2):
        print(with_programs("\n\n".join(_texts(words or GROUPS, choices))))
    return 0


def _texts(words: Sequence[str], choices: ConfigGroups) -> list[str]:
    """Return the text of each word; ConfigError with all words that name nothing."""
    texts, problems = [], []
    for word in words:
        group, _, choice = word.partition("=")
        if word == "keys":
            texts.append(document())
        elif group == GROUP and choice:
            texts.append(experiment_cards([choice], choices))
        elif group in GROUPS and not choice:
            texts.append(_list(group, choices))
        elif group in GROUPS and choices.has(group, choice):
            texts.append(_card(group, choice, choices))
        else:
            legal = choices.of(group) if group in GROUPS else [*GROUPS, "keys"]
            near = closest(choice if group in GROUPS else word, legal)
            start = f"{group}=" if group in GROUPS else ""
            guess = f"did you mean {' or '.join(start + name for name in near)}?\n" if near else ""
            problems.append(Problem((group,), (word,), "no such card", f"{guess}legal: {', '.join(legal)}"))
    if problems:
        raise ConfigError(problems, "the command line")
    return texts


def _list(group: str, choices: ConfigGroups) -> str:
    """Return the choices of a group with the first sentence of each file."""
    if group == GROUP:
        rows = {name: f"{len(found)} rows" for name, found in tables(choices.experiments.values()).items()}
        head = f"tables of experiments; {program('train')} --help {GROUP}=<table> lists the rows of one"
    else:
        rows = {name: choices.comment(group, name) for name in choices.of(group)}
        head = f"{group}=<choice>"
    width = max(map(len, rows)) + 2
    room = WIDTH - width - 4
    lines = (
        f"{name:<{width}}{textwrap.shorten(text, room, placeholder=' ...')}" for name, text in rows.items()
    )
    return "\n".join([head, *(f"    {line}".rstrip() for line in lines)])


def _card(group: str, choice: str, choices: ConfigGroups) -> str:
    """Return the card of a choice: the remarks of its file, and its keys with value and meaning."""
    lines = [f"{group}={choice}", *_indented(choices.comment(group, choice), 2), ""]
    values = choices.content(group, choice)
    tag = values.get("family", values.get("name"))
    keys = {
        name: next((key for key in found if key.family in (None, tag)), None)
        for name, found in keys_by_name(TrainConfig).items()
        if name.count(".") == 1 and name.startswith(f"{group}.")
    }
    names = [name.partition(".")[2] for name, key in keys.items() if key is not None]
    for name in dict.fromkeys([*values, *names]):
        key = keys.get(f"{group}.{name}")
        value = format_yaml(values[name]) if name in values else key.default if key else ""
        lines.append(f"  {group}.{name}={value}")
        lines += _indented(f"{key.meaning} [{key.expected}]" if key else "", 6)
    return "\n".join(lines)


def _indented(text: str, indent: int) -> list[str]:
    space = " " * indent
    return textwrap.wrap(text, WIDTH, initial_indent=space, subsequent_indent=space, break_on_hyphens=False)
