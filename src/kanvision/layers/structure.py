"""Changes of the structure of a built network, recorded so that its checkpoints load.

A grid gets finer, a basis is pruned: from then on the weights fit no network that the configuration alone
describes. Such a change is a function of a registered kind, `function(model, layer_name, **arguments)`, with
arguments that are primitives. `change_structure` runs it and keeps a record with the model; checkpoints carry
the record, and `restore_structure` does the same changes to a network that was just built, before weights are
loaded into it:

    @structural_change("refine_grid")
    def refine(model: nn.Module, layer: str, *, factor: int) -> None: ...

    change_structure(model, "refine_grid", "stages.0.0", factor=2)
    checkpoint["structure"] = structure_changes(model)
    restore_structure(build_again(), checkpoint["structure"])
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch import nn

__all__ = ["Change", "change_structure", "restore_structure", "structural_change", "structure_changes"]

Change = dict[str, Any]
"""One change: `kind`, `layer` (name of the module in the model) and `arguments`, all primitives."""

_RECORD = "_structure_changes"
_kinds: dict[str, Callable[..., Any]] = {}
_Function = TypeVar("_Function", bound=Callable[..., Any])


def structural_change(kind: str) -> Callable[[_Function], _Function]:
    """Register a function as a kind of change; it raises ValueError where it does not fit the layer.

    The function must do the same each time that it meets the same structure: what it makes of weights is up
    to it, but their names and shapes may depend on nothing else than its arguments.

    Raises:
        ValueError: Another function has this name.
    """

    def register(function: _Function) -> _Function:
        if kind in _kinds:
            raise ValueError(f"kind={kind!r} names a structural change already")
        _kinds[kind] = function
        return function

    return register


def change_structure(model: nn.Module, kind: str, layer: str, **arguments: Any) -> Any:
    """Change a layer of a model and record it.

    Args:
        model: The whole network.
        kind: A registered kind of change.
        layer: Name of the layer as in `model.named_modules()`.
        **arguments: Of the change; str, int, float, bool, None, or lists of them.

    Returns:
        What the function of this kind returns.

    Raises:
        ValueError: The kind or the layer is not known, an argument is no primitive, or the change does not
            fit the layer.
    """
    for name, value in arguments.items():
        _require_primitive(name, value)
    result = _run(model, kind, layer, arguments)
    record = getattr(model, _RECORD, [])
    change = {"kind": kind, "layer": layer, "arguments": copy.deepcopy(arguments)}
    setattr(model, _RECORD, [*record, change])
    return result


def structure_changes(model: nn.Module) -> list[Change]:
    """Return a copy of the changes since the model was built, in their order."""
    return copy.deepcopy(getattr(model, _RECORD, []))


def restore_structure(model: nn.Module, changes: Sequence[Change]) -> None:
    """Apply recorded changes that a model does not have yet; load the weights afterwards.

    Raises:
        ValueError: The model was changed in another way or further than the record, or knows a kind or a
            layer of it not.
    """
    done = structure_changes(model)
    if done != list(changes[: len(done)]):
        raise ValueError(
            f"the network has changed its structure {len(done)} times and not as the record of "
            f"{len(changes)} changes; weights for that record fit a network that was just built"
        )
    for change in changes[len(done) :]:
        change_structure(model, change["kind"], change["layer"], **change["arguments"])


def _run(model: nn.Module, kind: str, layer: str, arguments: dict[str, Any]) -> Any:
    if kind not in _kinds:
        raise ValueError(f"kind={kind!r} is no structural change; legal kinds: {', '.join(sorted(_kinds))}")
    try:
        model.get_submodule(layer)
    except AttributeError:
        raise ValueError(f"layer={layer!r} names no module of {type(model).__name__}") from None
    return _kinds[kind](model, layer, **arguments)


def _require_primitive(name: str, value: object) -> None:
    if isinstance(value, list):
        for item in value:
            _require_primitive(name, item)
    elif not isinstance(value, str | int | float | bool | None):
        raise ValueError(
            f"{name} is a {type(value).__name__}; a structural change takes str, int, float, bool, None and "
            "lists of them, for checkpoints carry it"
        )
