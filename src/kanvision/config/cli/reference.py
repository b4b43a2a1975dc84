"""Reference of all configuration keys, docs/config.md, generated from the schema."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator

from kanvision.config.schema.base import Section
from kanvision.config.schema.keys import Key, own_keys, section_types, tag_values
from kanvision.config.schema.root import EvalConfig, TrainConfig
from kanvision.config.schema.standalone import STANDALONE

__all__ = ["document"]

INTRO = """\
# Configuration keys

All keys that can be set on the command line or in a file of `conf/`. This page is generated from the schema:
`python -m kanvision.config.cli.reference > docs/config.md`.

A default is that of the schema; data files, recipes and experiments of `conf/` may set another value. A key
without a default gets its value from the chosen file of `conf/`. Keys that several models or several data
sets share stand in one table, before the tables of the single models and data sets. Where a model has
another default or other legal values for such a key, its own table repeats the key, and that row holds.

An illegal command line is refused before anything is loaded, with one message that lists all mistakes.
"""
HEAD = "| key | legal values | default | meaning |\n|---|---|---|---|"


def document() -> str:
    """Return the text of docs/config.md."""
    parts = [INTRO]
    for program, root in (("train.py", TrainConfig), ("eval.py", EvalConfig)):
        parts += [f"# `{program}`\n", _table(root, ""), *_sections(root, "")]
    for mode, alone in STANDALONE.items():
        data = " Keys of `data` are those of `train.py`." if "data" in alone.model_fields else ""
        parts += [f"# `eval.py mode={mode}`\n", f"{_purpose(alone)}{data}\n", _table(alone, "")]
    return "\n".join(parts)


def _sections(root: type[Section], prefix: str) -> Iterator[str]:
    """Yield a heading and a table for each section in `root`."""
    # keys that several alternatives inherit come first, once
    for name, field in root.model_fields.items():
        alternatives, below = section_types(field.annotation), f"{prefix}{name}."
        bases = _shared_bases(alternatives)
        for base in bases:
            words = [
                word for section in alternatives if issubclass(section, base) for word in tag_values(section)
            ]
            users = (
                "all" if all(issubclass(section, base) for section in alternatives) else _choices(name, words)
            )
            yield f"## `{below[:-1]}`: keys of {users}\n\n{_purpose(base)}\n\n{_table(base, below, bases)}"
        for section in alternatives:
            if section not in bases:
                choice = f", with {_choices(name, tag_values(section))}" if len(alternatives) > 1 else ""
                heading = f"## `{below[:-1]}`{choice}\n\n{_purpose(section)}\n"
                yield f"{heading}\n{_table(section, below, bases)}"
            yield from _sections(section, below)


def _shared_bases(alternatives: Iterable[type[Section]]) -> list[type[Section]]:
    """Return the classes from which several alternatives inherit keys, the most general first."""
    lines = [section.__mro__ for section in alternatives]
    bases = dict.fromkeys(
        kind for line in lines for kind in reversed(line) if issubclass(kind, Section) and own_keys(kind)
    )
    return [base for base in bases if sum(base in line for line in lines) > 1]


def _choices(group: str, words: Iterable[str]) -> str:
    return f"`{group}={'`, `'.join(words)}`"


def _purpose(section: type[Section]) -> str:
    return inspect.cleandoc(section.__doc__ or "")


def _table(section: type[Section], prefix: str, elsewhere: Iterable[type[Section]] = ()) -> str:
    """Return the table of the keys of a section, without those that the table of another class has."""
    printed = {
        name
        for base in elsewhere
        if base is not section and issubclass(section, base)
        for name in own_keys(base)
    }
    own = set(own_keys(section))
    names = [name for name in section.model_fields if name in own or name not in printed]
    keys = [Key(prefix + name, section.model_fields[name], section, None) for name in names]
    return "\n".join([HEAD, *map(_row, keys)]) + "\n" if keys else "No keys of its own.\n"


def _row(key: Key) -> str:
    default = "" if section_types(key.field.annotation) and key.default != "null" else key.default
    cells = (f"`{key.name}`", key.expected, f"`{default}`" if default else "", key.meaning)
    return f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    print(document(), end="")
