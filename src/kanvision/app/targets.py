"""Builds what a `_target_` of a configuration names, if that is a class of the right kind."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger
from torch import nn

from kanvision.config.problems import Problem
from kanvision.config.targets import ALLOWED_TARGETS

__all__ = ["built", "built_section"]

Built = TypeVar("Built")
ARGUMENTS = (Callback, Logger, nn.Module)
"""Classes that arguments may be, beside dataclasses."""


def built_section(
    section: str,
    entries: Mapping[str, Mapping[str, Any]],
    base: Callable[..., Built],
    problems: list[Problem],
) -> list[Built]:
    """Return the objects of a section of the configuration, in order, without those that cannot be built.

    Args:
        section: Dotted key of the section.
        entries: `_target_` and arguments of each object, by its name in the section.
        base: Class that the objects must have.
        problems: Gets one more for each object that cannot be built.
    """
    found = []
    for name, entry in entries.items():
        try:
            found.append(built(entry, base))
        except Exception as error:  # libraries raise TypeError, AssertionError, RuntimeError and more
            key = f"{section}.{name}"
            given = f"{key}._target_={entry.get('_target_')}"
            problems.append(Problem((key,), (given,), _reason(error), _arguments(entry, error)))
    return found


def _reason(error: Exception) -> str:
    """Return the message of the class itself, where Hydra has wrapped it."""
    cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
    return str(cause) or repr(cause)


def _arguments(entry: Mapping[str, Any], error: Exception) -> str:
    """Return the arguments that the class takes, if the error is that it was given others."""
    if not isinstance(error.__cause__, TypeError):
        return ""
    names = inspect.signature(get_object(str(entry["_target_"]))).parameters
    return f"its arguments: {', '.join(names)}"


def built(entry: Mapping[str, Any], base: Callable[..., Built]) -> Built:
    """The object.

    The name alone says little: `torch.os.system` and `kanvision.record.subprocess.Popen` begin as they
    should. So each `_target_`, those of arguments included, must be a class that was defined in a known
    package, never a function; the outermost one must be a `base`, and arguments are callbacks, loggers,
    modules or dataclasses: a package as large as torch has classes that start programs.

    References to variables of the environment are filled in here and nowhere before.

    Args:
        entry: `_target_` and its arguments.
        base: The class that is wanted.

    Raises:
        ValueError: If something else is named.
    """
    assert isinstance(base, type)
    filled: Any = OmegaConf.to_container(OmegaConf.create(dict(entry)), resolve=True)
    if unfilled := [text for text in _texts(filled) if "${" in text]:
        raise ValueError(f"{unfilled[0]} would be looked up twice; legal: the value itself")
    outermost, *inner = _targets(filled)
    _require_class(outermost, (base,))
    for target in inner:
        _require_class(target, ARGUMENTS)
    found: Built = instantiate(_with_numbers(filled), _convert_="all")
    return found


def _with_numbers(node: Any) -> Any:
    """Return arguments with numbers as keys where all keys are whole numbers: configurations have texts."""
    if isinstance(node, list):
        return [_with_numbers(value) for value in node]
    if not isinstance(node, Mapping):
        return node
    numbers = all(str(key).isdigit() for key in node)
    return {int(key) if numbers else key: _with_numbers(value) for key, value in node.items()}


def _targets(node: Any) -> Iterator[str]:
    """All `_target_`s, the outermost one first."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield str(node["_target_"])
        for value in node.values():
            yield from _targets(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _targets(value)


def _texts(node: Any) -> Iterator[str]:
    """All texts."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping | list | tuple):
        for value in node.values() if isinstance(node, Mapping) else node:
            yield from _texts(value)


def _require_class(target: str, bases: tuple[type, ...]) -> None:
    if not target.startswith(ALLOWED_TARGETS):
        raise ValueError(f"_target_={target}; legal beginnings: {', '.join(ALLOWED_TARGETS)}")
    found: Any = get_object(target)
    home = getattr(found, "__module__", None) or ""
    if not isinstance(found, type) or not f"{home}.".startswith(ALLOWED_TARGETS):
        what = "a class" if isinstance(found, type) else f"no class but a {type(found).__name__}"
        raise ValueError(
            f"_target_={target} is {what} of {home or 'no package'}; legal are classes of "
            f"{', '.join(name.rstrip('.') for name in ALLOWED_TARGETS)}"
        )
    if not issubclass(found, bases) and not (bases is ARGUMENTS and dataclasses.is_dataclass(found)):
        names = " or ".join(base.__name__ for base in bases)
        raise ValueError(f"_target_={target} is no {names}, and nothing else is legal here")
