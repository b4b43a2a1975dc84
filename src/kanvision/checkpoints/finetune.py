"""Training that starts from the weights of another run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from kanvision.layers import change_structure
from kanvision.layers.adapters import AdaptedKANLayer

from .io import (
    TASK_PREFIX,
    CheckpointError,
    find_checkpoint,
    load_checkpoint,
    match_structure,
    state_dict_for,
)

__all__ = ["Start", "begin_finetuning", "start_from"]

Grid = tuple[int, int]


class Start(NamedTuple):
    """What a network did not simply take over from another one."""

    fresh: list[str]
    """Names of the classifier's weights that start anew."""
    grids: tuple[Grid, Grid] | None = None
    """Patches of the other network's images and of its own, if what belongs to patches was interpolated."""
    classes: str = ""
    """A remark about the classes of the other network."""

    def __str__(self) -> str:
        """Both as text, empty if there is nothing to tell."""
        parts = [f"anew: {', '.join(self.fresh)}"] if self.fresh else []
        if self.grids is not None:
            old, new = (f"{height} x {width}" for height, width in self.grids)
            parts.append(f"what belongs to patches interpolated from {old} to {new}")
        return "; ".join([*parts, self.classes] if self.classes else parts)


def start_from(
    model: nn.Module,
    checkpoint: Mapping[str, Any],
    *,
    new_head: bool = False,
    class_names: Sequence[str] = (),
) -> Start:
    """Load the weights of a network that differs in nothing but its classifier and the size of its images.

    The network's structure becomes that of the checkpoint; adapters in it are merged, so that all weights can
    be trained. A vision transformer of another number of patches takes the size of the checkpoint, loads, and
    then goes back to its own, by its `set_input_size`: position embedding and KArAt's operators are
    interpolated over the grid of patches, which has to be square.

    Args:
        model: A network that was just built.
        checkpoint: Of a training run, or a bare state dict of such a network.
        new_head: Let the classifier start anew even if that of the checkpoint would fit.
        class_names: Names of the classes in the order of the outputs; where the checkpoint's are others, or
            in another order, the classifier starts anew. Empty: not known.

    Raises:
        CheckpointError: If the checkpoint is of another network.
    """
    match_structure(model, checkpoint)
    grids = _grids(model, checkpoint)
    resizable: Any = model
    if grids is not None:
        img_size = resizable.patch_embed.img_size
        patch = resizable.patch_embed.patch_size
        resizable.set_input_size(img_size=tuple(n * p for n, p in zip(grids[0], patch, strict=True)))
    head = _classifier(model)
    given = state_dict_for(model, checkpoint, optional=head)
    trained = (checkpoint.get("kanvision") or {}).get("class_names") or ()
    others = bool(trained) and bool(class_names) and list(trained) != list(class_names)
    if new_head or others:
        given = {name: value for name, value in given.items() if not name.startswith(head)}
    state = model.state_dict()
    model.load_state_dict({**state, **given})
    if grids is not None:
        resizable.set_input_size(img_size=img_size)
    if any(isinstance(module, AdaptedKANLayer) for module in model.modules()):
        change_structure(model, "merge_adapters", "")
    fresh = [name for name in state if name not in given]
    note = "its classes are others, or in another order" if others else ""
    if class_names and not trained and head and not any(name.startswith(head) for name in fresh):
        note = "its classes could not be compared, for it holds no names of them"
    return Start(fresh, grids, note)


def begin_finetuning(
    model: nn.Module,
    *,
    init_from: str | Path | None,
    freeze: bool,
    new_head: bool = False,
    class_names: Sequence[str] = (),
    runs_root: str | Path = "runs",
    **adapters: Any,
) -> Start:
    """Give a network its start and, with `freeze`, adapters.

    Args:
        model: A network that was just built.
        init_from: Checkpoint file, run folder or `latest`; None leaves the weights as they are.
        freeze: Freeze the KAN layers and add what `adapters` say.
        new_head: See `start_from`.
        class_names: See `start_from`.
        runs_root: Folder of all runs.
        **adapters: Arguments of `kanvision.layers.add_adapters`.

    Raises:
        CheckpointError: If there is no such checkpoint or it is of another network.
        ValueError: If the adapters do not fit.
    """
    start = Start([])
    if init_from is not None:
        try:
            path = find_checkpoint(init_from, runs_root=runs_root)
            checkpoint = load_checkpoint(path)
            start = start_from(model, checkpoint, new_head=new_head, class_names=class_names)
        except CheckpointError as error:
            raise CheckpointError(f"finetune.init_from={init_from}: {error}") from None
    if freeze:
        change_structure(model, "add_adapters", "", **adapters)
    return start


def _classifier(model: nn.Module) -> tuple[str, ...]:
    """Beginnings of the names of what turns features into classes."""
    get: Any = getattr(model, "get_classifier", None)  # timm's name for it, then that of smp
    head = get() if callable(get) else getattr(model, "segmentation_head", None)
    return tuple(f"{name}." for name, module in model.named_modules() if name and module is head)


def _grids(model: Any, checkpoint: Mapping[str, Any]) -> tuple[Grid, Grid] | None:
    """Grid of patches of the checkpoint's network and of this one, where their numbers of tokens differ."""
    own = getattr(model, "pos_embed", None)
    if own is None or not hasattr(model, "set_input_size") or not hasattr(model, "patch_embed"):
        return None
    entries = checkpoint.get("state_dict", checkpoint)
    given = next((entries[key] for key in ("pos_embed", f"{TASK_PREFIX}pos_embed") if key in entries), None)
    if given is None or given.ndim != 3 or given.shape[1] == own.shape[1]:
        return None
    in_front = own.shape[1] - model.patch_embed.num_patches
    side = math.isqrt(max(given.shape[1] - in_front, 0))
    if side * side + in_front != given.shape[1]:
        return None  # loading then says what differs
    height, width = model.patch_embed.grid_size
    return (side, side), (height, width)
