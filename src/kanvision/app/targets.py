"""Builds what a `_target_` of a configuration names, if that is a class of the right kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from hydra.utils import get_object, instantiate

from kanvision.config.targets import ALLOWED_TARGETS

__all__ = ["built"]

Built = TypeVar("Built")


def built(entry: Mapping[str, Any], base: Callable[..., Built]) -> Built:
    """The object.

    The name alone says little: `torch.os.system` and `kanvision.record.subprocess.Popen` begin as they
    should. So each `_target_`, those of arguments included, must be a class that was defined in a known
    package, never a function; the outermost one must be a `base`.

    Args:
        entry: `_target_` and its arguments.
        base: The class that is wanted.

    Raises:
        ValueError: If something else is named.
    """
    assert isinstance(base, type)
    outermost, *inner = _targets(entry)
    _require_class(outermost, base)
    for target in inner:
        _require_class(target, object)
    found: Built = instantiate(entry)
    return found


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


def _require_class(target: str, base: type) -> None:
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
    if not issubclass(found, base):
        raise ValueError(f"_target_={target} is no {base.__name__}, and nothing else is legal here")
