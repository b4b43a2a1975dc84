"""Defaults of the schema as configurations that the files of conf/ build on.

`_TrainConfig` holds the default of every key of `train.py` outside the groups `model`, `data` and `trainer`,
and `model/_KATConfig` those of the keys that `KATConfig` adds to its base class. A file of conf/ that names
one of them in its defaults list states only the values that differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from pydantic_core import PydanticUndefined, to_jsonable_python

from .schema.base import Section
from .schema.keys import own_keys, section_types
from .schema.root import EvalConfig, TrainConfig
from .schema.standalone import STANDALONE

__all__ = ["default_nodes"]

GROUPS = ("model", "data", "trainer")
"""Sections that files of conf/ are chosen for."""


@cache
def default_nodes() -> dict[str, dict[str, Any]]:
    """Return the defaults of each class by the path under which Hydra finds them, `model/_KATConfig`."""
    roots: tuple[type[Section], ...] = (TrainConfig, EvalConfig, *STANDALONE.values())
    nodes = {f"_{root.__name__}": _default_values(root) for root in roots}
    for group in GROUPS:
        nodes["_TrainConfig"].pop(group, None)
    for group in GROUPS:
        for section in section_types(TrainConfig.model_fields[group].annotation):
            for ancestor in _sections(section):
                values = _default_values(ancestor)
                own = {key: values[key] for key in own_keys(ancestor) if key in values}
                nodes[f"{group}/_{ancestor.__name__}"] = own
    return nodes


def _sections(section: type[Section]) -> Iterator[type[Section]]:
    """Yield a class and its base classes that have keys."""
    for ancestor in section.__mro__:
        if issubclass(ancestor, Section) and ancestor.model_fields:
            yield ancestor


def _default_values(section: type[Section]) -> dict[str, Any]:
    """Return the defaults of the keys of a section, and of the sections in it that are always there."""
    values: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        default = field.get_default(call_default_factory=True)
        sections = section_types(field.annotation)
        if default is not PydanticUndefined:
            values[name] = to_jsonable_python(default)
        elif len(sections) == 1 and (inner := _default_values(sections[0])):
            values[name] = inner
    return values
