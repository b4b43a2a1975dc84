"""Check of values against the types and legal values of the schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from kanvision.config.errors import Problem
from kanvision.config.nested import MISSING, value_at
from kanvision.config.schema.base import Section
from kanvision.config.schema.keys import (
    Key,
    describe,
    family_name,
    format_yaml,
    legal_values,
    section_types,
    tag_values,
)
from kanvision.config.schema.root import EvalConfig, TrainConfig
from kanvision.config.schema.standalone import StandaloneConfig
from kanvision.config.suggestions import nearest

from .unknown_keys import unknown_key

__all__ = ["check_schema"]

Schema = TypeVar("Schema", TrainConfig, EvalConfig, StandaloneConfig)


def check_schema(values: dict[str, Any], root: type[Schema]) -> tuple[Schema | None, list[Problem]]:
    """Return the configuration, None if the values do not fit the schema, and the problems with them."""
    try:
        return root.model_validate(values), []
    except ValidationError as errors:
        found: dict[str, Problem] = {}
        for error in errors.errors(include_url=False):
            problem = _problem(error, root, values)
            # pydantic reports a wrong value once for each type that the key may have
            found.setdefault(problem.keys[0], problem)
        return None, list(found.values())


def _locate(root: type[Section], location: Sequence[int | str]) -> tuple[str, Key | None, Any]:
    """Return the dotted key of an error of pydantic, with the key of the schema and its type."""
    sections: list[type[Section]] = [root]
    names: list[str] = []
    key: Key | None = None
    annotation: Any = Any
    for part in location:
        if sections:
            tagged = [section for section in sections if len(sections) > 1 and part in tag_values(section)]
            if tagged:
                sections = tagged
                continue
            names.append(str(part))
            owner = next((section for section in sections if part in section.model_fields), None)
            if owner is None:
                return ".".join(names), None, Any
            field = owner.model_fields[str(part)]
            key, annotation = Key(".".join(names), field, owner, family_name(owner)), field.annotation
            sections = section_types(annotation)
        elif get_origin(annotation) is dict:
            names.append(str(part))
            annotation = get_args(annotation)[1]
        else:
            break  # an element of a list, or one type of several
    return ".".join(names), key, annotation


def _problem(error: ErrorDetails, root: type[Section], values: Mapping[str, Any]) -> Problem:
    """Return an error of pydantic as a problem."""
    name, key, annotation = _locate(root, error["loc"])
    value = value_at(values, name)
    given = name if value is MISSING else f"{name}={format_yaml(value)}"
    if error["type"] == "extra_forbidden":
        return unknown_key(name, root, _marks(values)).typed_as(given)
    assert key is not None
    problem = partial(Problem, (name,), (given,))
    meaning = f"{name}: {key.meaning}" if key.meaning else ""
    if error["type"].startswith("union_tag"):
        sections = section_types(annotation)
        legal = [word for section in sections for word in tag_values(section)]
        tag = f"{name}.{'family' if 'family' in sections[0].model_fields else 'name'}"
        return Problem((tag,), (given,), f"no known {tag}", f"legal: {', '.join(legal)}")
    if error["type"] == "missing" and given == name:
        return problem(f"a value is needed: {key.expected}", meaning)
    if error["type"] == "value_error":
        return problem(str(error["ctx"]["error"]), meaning)
    sections = section_types(annotation)
    if sections and error["type"].startswith("model"):
        fields = dict.fromkeys(field for section in sections for field in section.model_fields)
        return problem(
            "a section, not a single value", f"set its keys: {', '.join(f'{name}.{f}' for f in fields)}"
        )
    expected = key.expected if annotation is key.field.annotation else describe(annotation)
    near = nearest(str(error["input"]), legal_values(annotation))
    guess = f"did you mean {name}={near[0]}?" if near else ""
    return problem(f"expected {expected}", "\n".join(filter(None, (guess, meaning))))


def _marks(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tags of the chosen model and data."""
    tags = {"model": "family", "data": "name"}
    sections = {name: values.get(name) for name in tags}
    return {name: s.get(tags[name]) for name, s in sections.items() if isinstance(s, Mapping)}
