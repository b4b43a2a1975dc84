"""Check of keys that do not exist, with the keys that are closest to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from kanvision.config.errors import Problem
from kanvision.config.schema.base import Section
from kanvision.config.schema.keys import Key, keys_by_name, section_types, tag_values
from kanvision.config.schema.root import EvalConfig, TrainConfig
from kanvision.config.suggestions import closest

__all__ = ["unknown_key"]


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
    index, problem = keys_by_name(root), partial(Problem, (name,), (name,))
    group, chosen = name.partition(".")[0], chosen or {}
    if name in index:
        owners = _either(group, [key.family for key in index[name] if key.family])
        if not owners:
            return problem(f"{name.rpartition('.')[0]} is null and has no keys")
        if name == "model.plain" and chosen.get(group) in _plain_families():
            why = f"model={chosen[group]} has no KAN layers, so it is plain as it is"
            return problem(why, "leave it out")
        why = f"{group}={chosen.get(group)} has no such key"
        return problem(why, f"it belongs to {owners}")
    if root is EvalConfig and name in keys_by_name(TrainConfig):
        parent = name.split(".")[0]
        legal = [key for key in index if key.startswith(f"{parent}.")]
        why = "evaluation takes it from the run's own configuration"
        return problem(why, f"can be set: {', '.join(legal)}" if legal else "leave it out")
    parent = name.rpartition(".")[0]
    if parent in index and not any(section_types(key.field.annotation) for key in index[parent]):
        return problem(f"{parent} is a single value, without keys")
    index = {
        other: keys
        for other, keys in index.items()
        if any(key.family in (None, chosen.get(other.partition(".")[0])) for key in keys)
    }
    near = closest(name, [*index, *(key for key in present if key not in index)])
    if near:
        return problem("unknown key", "\n".join(_suggestion(other, index) for other in near))
    siblings = [key for key in [*index, *present] if key.rpartition(".")[0] == parent]
    if not siblings:
        parent, siblings = "", [key for key in index if "." not in key]
    return problem("unknown key", f"keys of {parent or 'the top'}: {', '.join(dict.fromkeys(siblings))}")


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
