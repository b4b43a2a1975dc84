"""Extension of the schema by plugins: sections of models and data sets, names of losses and analyses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args

from pydantic import create_model

from kanvision import plugins
from kanvision.plugins import PluginError

from .conf_folder import CONF
from .defaults import default_nodes
from .groups import ConfigGroups
from .schema.base import ModelConfig, Section
from .schema.data import ClassDataConfig, DataConfig, MaskDataConfig
from .schema.keys import keys_by_name, legal_values, section_types, tag_values
from .schema.root import EvalConfig, TrainConfig
from .schema.standalone import CheckConfig
from .schema.training import LossConfig

__all__ = ["add_free_sections", "extend_schema", "register_section"]

Registered = TypeVar("Registered", bound=Section)
_HOLDERS: dict[str, tuple[type[Section], ...]] = {"model": (TrainConfig,), "data": (TrainConfig, CheckConfig)}
"""Classes with a key of several sections."""
_TAGS = {"model": "family", "data": "name"}


def register_section(section: type[Registered]) -> type[Registered]:
    """Add the keys of a model (`ModelConfig`) or of a data set (`DataConfig`); used as a decorator.

    Args:
        section: Class whose `family`, for data `name`, is a `Literal` of the values that choose it.

    Raises:
        PluginError: A value is taken, or the class is another one.
    """
    group = "model" if issubclass(section, ModelConfig) else "data" if issubclass(section, DataConfig) else ""
    if not group:
        raise PluginError(f"{section.__name__} is neither a ModelConfig nor a DataConfig")
    if not tag_values(section):
        raise PluginError(f"{section.__name__}.{_TAGS[group]} must be a Literal of its names")
    taken = _tags(group)
    for word in tag_values(section):
        plugins.add_name(word, taken)
    for holder in _HOLDERS[group]:
        field = holder.model_fields[group]
        field.annotation = Union[(*get_args(field.annotation), section)]  # type: ignore[assignment]
    return section


def add_free_sections(conf: Path) -> None:
    """Add a section for each model and data set of a folder that has a file but no section.

    Its keys are those of the file, their types those of the values in it; null takes anything.

    Raises:
        PluginError: A file has no name of its model or data set.
    """
    choices = ConfigGroups([CONF])
    for group, tag in _TAGS.items():
        for path in sorted((conf / group).glob("[!_]*.yaml")):
            values = choices.content(group, path.stem)
            word = values.get(tag)
            if not isinstance(word, str):
                raise PluginError(f"{path}: {tag} is missing, the name of the {group}")
            if word not in _tags(group):
                register_section(_free_section(group, word, values, choices.comment(group, path.stem)))


def extend_schema() -> None:
    """Rebuild the schema with all that plugins have registered."""
    _extend_literal(LossConfig, "name", plugins.LOSSES)
    _extend_literal(EvalConfig, "analysis", plugins.ANALYSES)
    for root in (LossConfig, TrainConfig, EvalConfig, CheckConfig):
        root.model_rebuild(force=True)
    for cached in (default_nodes, keys_by_name):
        cached.cache_clear()


def _tags(group: str) -> set[str]:
    sections = section_types(TrainConfig.model_fields[group].annotation)
    return {word for section in sections for word in tag_values(section)}


def _free_section(group: str, word: str, values: Mapping[str, Any], comment: str) -> type[Section]:
    base: type[Section] = ModelConfig
    if group == "data":
        base = MaskDataConfig if values.get("task") == "segmentation" else ClassDataConfig
    tag = _TAGS[group]
    own = {key: value for key, value in values.items() if key not in base.model_fields and key != tag}
    fields: dict[str, Any] = {key: (_type(value), value) for key, value in own.items()}
    fields[tag] = (Literal[word], ...)
    name = "".join(part.capitalize() for part in word.split("_"))
    return create_model(
        f"{name}Config", __base__=base, __doc__=comment or f"Keys of {group}={word}.", **fields
    )


def _type(example: Any) -> Any:
    """Return the type of the values of a key whose default is the example."""
    is_reference = isinstance(example, str) and "${" in example
    if example is None or is_reference:
        return Any
    types: dict[type, Any] = {list: list[Any], dict: dict[str, Any]}
    return types.get(type(example), type(example))


def _extend_literal(section: type[Section], key: str, names: Mapping[str, Any]) -> None:
    """Add names to the legal values of a key."""
    field = section.model_fields[key]
    known = legal_values(field.annotation)
    if new := tuple(name for name in names if name not in known):
        field.annotation = Union[field.annotation, Literal[new]]  # type: ignore[assignment]  # noqa: UP007
