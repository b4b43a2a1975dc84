"""Keys of the schema in words: type, legal values, default and meaning."""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from .base import Section

__all__ = [
    "Key",
    "all_keys",
    "describe",
    "format_yaml",
    "keys_by_name",
    "section_types",
    "tag_values",
    "with_its_section",
]


@dataclass(frozen=True)
class Key:
    """Key of the configuration."""

    name: str
    """Dotted name."""
    field: FieldInfo
    owner: type[Section]
    """Class that defines the key."""
    family: str | None
    """Tag of the section (`kat`, `busi`), for keys of one of several sections; else None."""

    @property
    def expected(self) -> str:
        """Type and legal values in words."""
        return describe(self.field.annotation, self.field.metadata)

    @property
    def meaning(self) -> str:
        """Docstring of the field."""
        return read_docstrings(self.owner).get(self.name.rpartition(".")[2], "")

    @property
    def default(self) -> str:
        """Default as yaml; empty if a file of conf/ must set the value."""
        value = self.field.get_default(call_default_factory=True)
        return "" if value is PydanticUndefined else format_yaml(value)


@cache
def read_docstrings(section: type[Section]) -> dict[str, str]:
    """Return the docstrings of the keys of a section, its own and inherited ones.

    The source is read at the first call: pydantic would parse it at each import.
    """
    found: dict[str, str] = {}
    for kind in reversed(section.__mro__):
        if issubclass(kind, Section) and (source := _source(kind)):
            (body,) = ast.parse(textwrap.dedent(source)).body
            assert isinstance(body, ast.ClassDef)
            for line, after in pairwise(body.body):
                if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                    match after:
                        case ast.Expr(value=ast.Constant(value=str(text))):
                            found[line.target.id] = inspect.cleandoc(text)
    return found


def _source(kind: type) -> str:
    """Return the source text of a class; empty if it was made from a file of a plugin."""
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        return ""


def format_yaml(value: Any) -> str:
    """Return a value as it is typed: `null`, `true`, `[0.5, 1.0]`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Section):
        return format_yaml(value.model_dump())
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {format_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(format_yaml, value)) + "]"
    return str(value)


def _parts(annotation: Any) -> tuple[Any, list[Any]]:
    """Return an annotation without its `Annotated`, and the constraints in it."""
    if get_origin(annotation) is not Annotated:
        return annotation, []
    inner, *notes = get_args(annotation)
    constraints = [c for note in notes for c in (note.metadata if isinstance(note, FieldInfo) else [note])]
    return inner, constraints


def _range(constraints: Sequence[Any]) -> str:
    """Return constraints in words, such as `> 0` or `>= 0 and <= 1`."""
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    bounds = [(sign, getattr(each, name, None)) for name, sign in signs.items() for each in constraints]
    return " and ".join(f"{sign} {_number(value)}" for sign, value in bounds if value is not None)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def describe(annotation: Any, constraints: Sequence[Any] = ()) -> str:
    """Return type and legal values in words, for example `whole number >= 1 or null`."""
    inner, more = _parts(annotation)
    constraints = [*constraints, *more]
    origin, arguments = get_origin(inner), get_args(inner)
    if origin in (Union, types.UnionType):
        if section_types(inner):
            sections = "section" if len(section_types(inner)) == 1 else "one of the sections"
            return f"{sections} or null" if type(None) in arguments else sections
        words = (legal_values(part) or [describe(part, constraints)] for part in arguments)
        return _either([word for some in words for word in some])
    if origin is Literal:
        return _either([format_yaml(value) for value in arguments])
    if origin is list or (origin is tuple and arguments[-1] is Ellipsis):
        return f"list of {describe(arguments[0]).replace('number', 'numbers')}"
    if origin is tuple:
        return f"[{', '.join(describe(part) for part in arguments)}]"
    if origin is dict:
        return "section with keys of your own"
    name = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "null"}.get(
        inner
    )
    if name is None:
        return "section" if _is_section(inner) else "anything"
    bounds = _range(constraints) if inner in (int, float) else ""
    return f"{name} {bounds}" if bounds else name


def _either(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def section_types(annotation: Any) -> list[type[Section]]:
    """Return the classes of the sections that a key may hold; empty for a plain value."""
    inner, _ = _parts(annotation)
    if _is_section(inner):
        return [inner]
    if get_origin(inner) in (Union, types.UnionType):
        return [section for part in get_args(inner) for section in section_types(part)]
    return []


def legal_values(annotation: Any) -> list[str]:
    """Return the legal values of a key that has a list of them; else an empty list."""
    inner, _ = _parts(annotation)
    if get_origin(inner) is Literal:
        return [format_yaml(value) for value in get_args(inner)]
    if get_origin(inner) in (Union, types.UnionType):
        return [value for part in get_args(inner) for value in legal_values(part)]
    return []


def tag_values(section: type[Section]) -> list[str]:
    """Return the legal values of the tag of a section: `family` of a model, `name` of a data set.

    The tag distinguishes several sections that the same key may hold.
    """
    field = section.model_fields.get("family") or section.model_fields.get("name")
    return legal_values(field.annotation) if field else []


def family_name(section: type[Section]) -> str | None:
    """Return the tag of a section if it has a single legal value, else None."""
    words = tag_values(section)
    return words[0] if len(words) == 1 else None


def all_keys(root: type[Section], prefix: str = "", family: str | None = None) -> Iterator[Key]:
    """Yield the keys below `root`, a section before its keys; keys of several models once for each."""
    family = family_name(root) or family
    for name, field in root.model_fields.items():
        yield Key(prefix + name, field, root, family)
        for section in section_types(field.annotation):
            yield from all_keys(section, f"{prefix}{name}.", family)


@cache
def keys_by_name(root: type[Section]) -> dict[str, list[Key]]:
    """Return all keys by their dotted names."""
    found: dict[str, list[Key]] = {}
    for key in all_keys(root):
        found.setdefault(key.name, []).append(key)
    return found


def with_its_section(word: str, root: type[Section]) -> str:
    """Return an override with `++`, as in `++ema.decay=0.99`, if the section of its key may be null."""
    index = keys_by_name(root)
    key = word.partition("=")[0]
    around = index.get(key.rpartition(".")[0], [])
    return f"++{word}" if key in index and any(k.expected == "section or null" for k in around) else word


def own_keys(section: type[Section]) -> list[str]:
    """Return the keys that a section itself defines, without those that it inherits."""
    annotated = inspect.get_annotations(section)
    return [name for name in section.model_fields if name in annotated]
