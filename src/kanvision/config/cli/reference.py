"""docs/config.md from the schema: `python -m kanvision.config.cli.reference > docs/config.md`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from kanvision.config.keys import Key, section_types, tag_values
from kanvision.config.schema.base import Section
from kanvision.config.schema.evaluation import CheckConfig
from kanvision.config.schema.root import EvalConfig, TrainConfig

__all__ = ["document"]

INTRO = """\
# Configuration

Every key that can be set on the command line or in a file of `conf/`, generated from the schema by
`python -m kanvision.config.cli.reference > docs/config.md`. A key without a default gets its value from the
chosen
file of `conf/`. The defaults are those of `conf/train.yaml`; data files, recipes and experiments change them.

What is wrong with a command line is answered in one message before anything is loaded.
"""
HEAD = "| key | legal values | default | meaning |\n|---|---|---|---|"


def document() -> str:
    """The text of docs/config.md."""
    parts = [INTRO]
    for program, root in (("train.py", TrainConfig), ("eval.py", EvalConfig)):
        parts.append(f"# `{program}`\n")
        parts.extend(_sections(root, ""))
    parts.append("# `eval.py mode=check_data data=<name>`\n")
    parts.append(f"{_purpose(CheckConfig)} Keys of `data` are those of `train.py`.\n")
    parts.append(_table(CheckConfig, ""))
    return "\n".join(parts)


def _sections(root: type[Section], prefix: str) -> Iterator[str]:
    """A heading and a table for `root`, then for each section in it."""
    yield _table(root, prefix)
    for name, field in root.model_fields.items():
        for section in section_types(field.annotation):
            words = tag_values(section) if len(section_types(field.annotation)) > 1 else []
            choice = f", with `{name}={'`, `'.join(words)}`" if words else ""
            yield f"## `{prefix}{name}`{choice}\n\n{_purpose(section)}\n"
            yield from _sections(section, f"{prefix}{name}.")


def _purpose(section: type[Section]) -> str:
    return inspect.cleandoc(section.__doc__ or "")


def _table(section: type[Section], prefix: str) -> str:
    keys = [Key(prefix + name, field, section, None) for name, field in section.model_fields.items()]
    return "\n".join([HEAD, *map(_row, keys)]) + "\n"


def _row(key: Key) -> str:
    default = "" if section_types(key.field.annotation) and key.default != "null" else key.default
    cells = (f"`{key.name}`", key.expected, f"`{default}`" if default else "", key.meaning)
    return f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    print(document(), end="")
