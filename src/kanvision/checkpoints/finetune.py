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
    extract_state_dict,
    find_checkpoint,
    load_checkpoint,
    match_structure,
)

__all__ = ["Start", "begin_finetuning", "load_initial_weights"]

Grid = tuple[int, int]


class Start(NamedTuple):
    """Differences between the weights of a checkpoint and those of the network that loaded them."""

    fresh: list[str]
    """Names of the weights of the classifier that keep their initial values."""
    grids: tuple[Grid, Grid] | None = None
    """Grids of patches of the checkpoint and of the network, if position embeddings were interpolated."""
    classes: str = ""
    """Remark about the classes of the checkpoint."""

    def __str__(self) -> str:
        """Return all of them as text, empty if there are none."""
        parts = [f"anew: {', '.join(self.fresh)}"] if self.fresh else []
        if self.grids is not None:
            old, new = (f"{height} x {width}" for height, width in self.grids)
            parts.append(f"what belongs to patches interpolated from {old} to {new}")
        return "; ".join([*parts, self.classes] if self.classes else parts)


def load_initial_weights(
    model: nn.Module,
    checkpoint: Mapping[str, Any],
    *,
    new_head: bool = False,
    class_names: Sequence[str] = (),
) -> Start:
    """Load the weights of a network that differs only in its classifier and in the size of its images.

    The network gets the structure of the checkpoint; adapters are merged, so that all weights can be trained.
    A vision transformer with another number of patches is set to the size of the checkpoint by its
    `set_input_size`, loads, and is set back: position embedding and operators of KArAt are interpolated over
    the grid of patches, which must be square.

    Args:
        model: A network that was just built.
        checkpoint: Checkpoint of a training run, or a state dict of such a network.
        new_head: Keep the initial classifier even if that of the checkpoint fits.
        class_names: Names of the classes in the order of the outputs. If those of the checkpoint differ, in
            names or order, the classifier keeps its initial values. Empty if not known.

    Raises:
        CheckpointError: The checkpoint is of another network.
    """
    match_structure(model, checkpoint)
    grids = _grids(model, checkpoint)
    resizable: Any = model
    if grids is not None:
        img_size = resizable.patch_embed.img_size
        patch = resizable.patch_embed.patch_size
        resizable.set_input_size(img_size=tuple(n * p for n, p in zip(grids[0], patch, strict=True)))
    head = _classifier(model)
    given = extract_state_dict(model, checkpoint, optional=head)
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
    """Load the start of a fine-tuning and, with `freeze`, add adapters.

    Args:
        model: A network that was just built.
        init_from: Checkpoint file, run folder or `latest`; None leaves the weights as they are.
        freeze: Freeze the KAN layers and add adapters.
        new_head: See `load_initial_weights`.
        class_names: See `load_initial_weights`.
        runs_root: Folder of all runs.
        **adapters: Arguments of `kanvision.layers.add_adapters`.

    Raises:
        CheckpointError: There is no such checkpoint, or it is of another network.
        ValueError: The adapters do not fit.
    """
    start = Start([])
    if init_from is not None:
        try:
            path = find_checkpoint(init_from, runs_root=runs_root)
            checkpoint = load_checkpoint(path)
            start = load_initial_weights(model, checkpoint, new_head=new_head, class_names=class_names)
        except CheckpointError as error:
            raise CheckpointError(f"finetune.init_from={init_from}: {error}") from None
    if freeze:
        change_structure(model, "add_adapters", "", **adapters)
    return start


def _classifier(model: nn.Module) -> tuple[str, ...]:
    """Return the prefixes of the parameters of the classifier."""
    get: Any = getattr(model, "get_classifier", None)  # timm's name for it, then that of smp
    head = get() if callable(get) else getattr(model, "segmentation_head", None)
    return tuple(f"{name}." for name, module in model.named_modules() if name and module is head)


def _grids(model: Any, checkpoint: Mapping[str, Any]) -> tuple[Grid, Grid] | None:
    """Return the grids of patches of checkpoint and network if their numbers of tokens differ."""
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
        return None  # loading then reports the difference
    height, width = model.patch_embed.grid_size
    return (side, side), (height, width)
