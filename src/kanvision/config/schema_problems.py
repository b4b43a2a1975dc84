"""Problems of values that do not fit the schema, with the keys that would be right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from .errors import Problem
from .keys import (
    Key,
    closest,
    describe,
    family_name,
    format_yaml,
    keys_by_name,
    legal_values,
    nearest,
    section_types,
    tag_values,
)
from .schema.base import Section
from .schema.root import EvalConfig, TrainConfig
from .schema.standalone import StandaloneConfig

__all__ = ["check_schema", "unknown_key", "value_at"]

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


def value_at(values: Mapping[str, Any], key: str) -> Any:
    """Return the value at a dotted key; KeyError if there is none."""
    node: Any = values
    for part in key.split("."):
        if not isinstance(node, Mapping):
            raise KeyError(key)
        node = node[part]
    return node


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
    try:
        given = f"{name}={format_yaml(value_at(values, name))}"
    except KeyError:
        given = name
    if error["type"] == "extra_forbidden":
        return unknown_key(name, root, _marks(values)).typed_as(given)
    assert key is not None
    meaning = f"{name}: {key.meaning}" if key.meaning else ""
    if error["type"].startswith("union_tag"):
        sections = section_types(annotation)
        legal = [word for section in sections for word in tag_values(section)]
        tag = f"{name}.{'family' if 'family' in sections[0].model_fields else 'name'}"
        return Problem((tag,), (given,), f"no known {tag}", f"legal: {', '.join(legal)}")
    if error["type"] == "missing" and given == name:
        return Problem((name,), (given,), f"a value is needed: {key.expected}", meaning)
    if error["type"] == "value_error":
        return Problem((name,), (given,), str(error["ctx"]["error"]), meaning)
    sections = section_types(annotation)
    if sections and error["type"].startswith("model"):
        fields = dict.fromkeys(field for section in sections for field in section.model_fields)
        return Problem(
            (name,),
            (given,),
            "a section, not a single value",
            f"set its keys: {', '.join(f'{name}.{f}' for f in fields)}",
        )
    expected = key.expected if annotation is key.field.annotation else describe(annotation)
    near = nearest(str(error["input"]), legal_values(annotation))
    guess = f"did you mean {name}={near[0]}?" if near else ""
    return Problem((name,), (given,), f"expected {expected}", "\n".join(filter(None, (guess, meaning))))


def _marks(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tags of the chosen model and data."""
    tags = {"model": "family", "data": "name"}
    sections = {name: values.get(name) for name in tags}
    return {name: s.get(tags[name]) for name, s in sections.items() if isinstance(s, Mapping)}


def unknown_key(
    name: str,
    root: type[Section],
    chosen: Mapping[str, str | None] | None = None,
    present: Sequence[str] = (),
) -> Problem:
    """Return the problem of a key that does not exist, with the closest legal keys.

    Args:
        name: Dotted key.
        root: Schema of the whole configuration.
        chosen: Tags of the chosen sections: family of the model, name of the data set.
        present: Further legal keys, such as those of the chosen basis.
    """
    index = keys_by_name(root)
    group, chosen = name.partition(".")[0], chosen or {}
    if name in index:
        owners = _either(group, [key.family for key in index[name] if key.family])
        if not owners:
            return Problem((name,), (name,), f"{name.rpartition('.')[0]} is null and has no keys")
        if name == "model.plain" and chosen.get(group) in _plain_families():
            why = f"model={chosen[group]} has no KAN layers, so it is plain as it is"
            return Problem((name,), (name,), why, "leave it out")
        why = f"{group}={chosen.get(group)} has no such key"
        return Problem((name,), (name,), why, f"it belongs to {owners}")
    if (
        root is EvalConfig
        and name.split(".")[0] in TrainConfig.model_fields
        and name in keys_by_name(TrainConfig)
    ):
        parent = name.split(".")[0]
        legal = [key for key in index if key.startswith(f"{parent}.")]
        why = "evaluation takes it from the run's own configuration"
        return Problem((name,), (name,), why, f"can be set: {', '.join(legal)}" if legal else "leave it out")
    parent = name.rpartition(".")[0]
    if parent in index and not any(section_types(key.field.annotation) for key in index[parent]):
        return Problem((name,), (name,), f"{parent} is a single value, without keys")
    index = {
        other: keys
        for other, keys in index.items()
        if any(key.family in (None, chosen.get(other.partition(".")[0])) for key in keys)
    }
    near = closest(name, [*index, *(key for key in present if key not in index)])
    if near:
        return Problem(
            (name,), (name,), "unknown key", "\n".join(_suggestion(other, index) for other in near)
        )
    siblings = [key for key in [*index, *present] if key.rpartition(".")[0] == parent]
    if not siblings:
        parent, siblings = "", [key for key in index if "." not in key]
    return Problem(
        (name,),
        (name,),
        "unknown key",
        f"keys of {parent or 'the top'}: {', '.join(dict.fromkeys(siblings))}",
    )


def _plain_families() -> list[str]:
    """Return the families of models without KAN layers."""
    families: Any = section_types(TrainConfig.model_fields["model"].annotation)
    return [tag for family in families if not family.has_kan_layers for tag in tag_values(family)]


def _either(group: str, words: Sequence[str]) -> str:
    return " or ".join(f"{group}={word}" for word in words)


def _suggestion(name: str, index: Mapping[str, Sequence[Key]]) -> str:
    keys = index.get(name)
    if not keys:
        return f"closest: {name}"
    marks = [] if any(key.family is None for key in keys) else [str(key.family) for key in keys]
    families = _either(name.partition(".")[0], marks)
    return f"closest: {name} ({keys[0].expected}{f'; {families}' if families else ''}). {keys[0].meaning}"
