"""Changes of the structure of a built network, recorded so that its checkpoints load.

After a grid is refined or a basis is pruned, the configuration alone does not describe the network of the
weights. Such a change is a function of a registered kind, `function(model, layer_name, **arguments)`, with
primitive arguments. `change_structure` applies it and keeps a record with the model; checkpoints contain the
record, and `restore_structure` applies the changes to a new network before weights are loaded:

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

    The function must be deterministic in the structure: it may change weights in any way, but their names and
    shapes may depend only on its arguments.

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
        model: Network.
        kind: Registered kind of change.
        layer: Name of the layer as in `model.named_modules()`.
        **arguments: Arguments of the change: str, int, float, bool, None, or lists of them.

    Returns:
        Result of the registered function.

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
        ValueError: The model has other or more changes than the record, or a kind or a layer of it is not
            known.
    """
    done = structure_changes(model)
    if done != list(changes[: len(done)]):
        raise ValueError(
            f"the network has {len(done)} structural changes, which differ from the record of {len(changes)} "
            "changes; load that record into a new network"
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
            f"{name} is a {type(value).__name__}; legal arguments of a structural change are str, int, "
            "float, bool, None and lists of them"
        )
