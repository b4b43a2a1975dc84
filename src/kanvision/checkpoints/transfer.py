"""Training that starts from the weights of another run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from kanvision.layers import change_structure
from kanvision.layers.adapters import AdaptedKANLayer

from .io import CheckpointError, find_checkpoint, load_checkpoint, match_structure, state_dict_for

__all__ = ["begin_finetuning", "start_from"]


def start_from(model: nn.Module, checkpoint: Mapping[str, Any]) -> list[str]:
    """Load the weights of a network that differs in nothing but the size of its classifier.

    The network's structure becomes that of the checkpoint; adapters in it are merged, so that all weights can
    be trained.

    Args:
        model: A network that was just built.
        checkpoint: Of a training run, or a bare state dict of such a network.

    Returns:
        Names of the classifier's weights that were not loaded, for they have another shape or are missing.

    Raises:
        CheckpointError: If the checkpoint is of another network.
    """
    match_structure(model, checkpoint)
    given = state_dict_for(model, checkpoint, optional=_classifier(model))
    state = model.state_dict()
    model.load_state_dict({**state, **given})
    if any(isinstance(module, AdaptedKANLayer) for module in model.modules()):
        change_structure(model, "merge_adapters", "")
    return [name for name in state if name not in given]


def begin_finetuning(
    model: nn.Module,
    *,
    init_from: str | Path | None,
    freeze: bool,
    runs_root: str | Path = "runs",
    **adapters: Any,
) -> None:
    """Give a network its start and, with `freeze`, adapters.

    Args:
        model: A network that was just built.
        init_from: Checkpoint file, run folder or `latest`; None leaves the weights as they are.
        freeze: Freeze the KAN layers and add what `adapters` say.
        runs_root: Folder of all runs.
        **adapters: Arguments of `kanvision.layers.add_adapters`.

    Raises:
        CheckpointError: If there is no such checkpoint or it is of another network.
        ValueError: If the adapters do not fit.
    """
    if init_from is not None:
        try:
            path = find_checkpoint(init_from, runs_root=runs_root)
            start_from(model, load_checkpoint(path))
        except CheckpointError as error:
            raise CheckpointError(f"finetune.init_from={init_from}: {error}") from None
    if freeze:
        change_structure(model, "add_adapters", "", **adapters)


def _classifier(model: nn.Module) -> tuple[str, ...]:
    """Beginnings of the names of what turns features into classes."""
    get: Any = getattr(model, "get_classifier", None)  # timm's name for it, then that of smp
    head = get() if callable(get) else getattr(model, "segmentation_head", None)
    return tuple(f"{name}." for name, module in model.named_modules() if name and module is head)
