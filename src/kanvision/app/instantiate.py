"""Instantiation of the classes that `_target_` names in `callbacks` and `logger`.

The beginning of a name does not say where it leads: `torch.os.system` and
`kanvision.app.run_record.subprocess.Popen` begin with a legal package. So each `_target_`, those of arguments
included, must be a class that was defined in a legal package, never a function. Arguments are callbacks,
loggers, modules or dataclasses, because a package as large as torch has classes that start programs.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger
from torch import nn

from kanvision.config.errors import Problem
from kanvision.config.nested import walk
from kanvision.config.targets import allowed_targets

__all__ = ["instantiate_section", "instantiate_target"]

Built = TypeVar("Built")
ARGUMENTS = (Callback, Logger, nn.Module)
"""Base classes that arguments may have; dataclasses are legal besides."""


def instantiate_section(
    section: str,
    entries: Mapping[str, Mapping[str, Any]],
    base: Callable[..., Built],
    problems: list[Problem],
) -> list[Built]:
    """Return the objects of a section of the configuration; `problems` gets those that cannot be built."""
    objects = []
    for name, entry in entries.items():
        try:
            objects.append(instantiate_target(entry, base))
        except Exception as error:  # libraries raise TypeError, AssertionError, RuntimeError and more
            key = f"{section}.{name}"
            given = f"{key}._target_={entry.get('_target_')}"
            problems.append(Problem((key,), (given,), _reason(error), _legal_arguments(entry, error)))
    return objects


def instantiate_target(entry: Mapping[str, Any], base: Callable[..., Built]) -> Built:
    """Return the object that an entry describes; ValueError if a `_target_` is not legal.

    References to environment variables are resolved here and nowhere before.
    """
    assert isinstance(base, type)
    resolved: Any = OmegaConf.to_container(OmegaConf.create(dict(entry)), resolve=True)
    values = list(walk(resolved))
    if unresolved := [text for _, text in values if isinstance(text, str) and "${" in text]:
        raise ValueError(f"{unresolved[0]} would be looked up twice; legal: the value itself")
    targets = [str(value) for key, value in values if key.rpartition(".")[2] == "_target_"]
    outermost = str(resolved["_target_"])
    _check_class(outermost, (base,))
    targets.remove(outermost)
    for target in targets:
        _check_class(target, ARGUMENTS)
    instance: Built = instantiate(_with_integer_keys(resolved), _convert_="all")
    return instance


def _reason(error: Exception) -> str:
    """Return the message of the class itself, where Hydra has wrapped it."""
    cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
    return str(cause) or repr(cause)


def _legal_arguments(entry: Mapping[str, Any], error: Exception) -> str:
    """Return the names of the arguments of a class, if the error is that it was given others."""
    if not isinstance(error.__cause__, TypeError):
        return ""
    names = inspect.signature(get_object(str(entry["_target_"]))).parameters
    return f"its arguments: {', '.join(names)}"


def _with_integer_keys(node: Any) -> Any:
    """Convert keys to integers in each mapping whose keys are all digits; configurations hold strings."""
    if isinstance(node, list):
        return [_with_integer_keys(value) for value in node]
    if not isinstance(node, Mapping):
        return node
    are_integers = all(str(key).isdigit() for key in node)
    return {int(key) if are_integers else key: _with_integer_keys(value) for key, value in node.items()}


def _check_class(target: str, bases: tuple[type, ...]) -> None:
    """Check that a `_target_` is a class of a legal package and base class; ValueError if not."""
    if not target.startswith(allowed_targets()):
        raise ValueError(f"_target_={target}; legal beginnings: {', '.join(allowed_targets())}")
    found: Any = get_object(target)
    module = getattr(found, "__module__", None) or ""
    if not isinstance(found, type) or not f"{module}.".startswith(allowed_targets()):
        kind = "a class" if isinstance(found, type) else f"no class but a {type(found).__name__}"
        raise ValueError(
            f"_target_={target} is {kind} of {module or 'no package'}; legal are classes of "
            f"{', '.join(name.rstrip('.') for name in allowed_targets())}"
        )
    if not issubclass(found, bases) and not (bases is ARGUMENTS and dataclasses.is_dataclass(found)):
        names = " or ".join(base.__name__ for base in bases)
        raise ValueError(f"_target_={target} is no {names}, and nothing else is legal here")
