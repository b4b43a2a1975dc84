"""Finding checkpoints and loading them, ours and published ones, without running what is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kanvision.lazy import load_on_demand

from .finetune import Start, begin_finetuning, load_initial_weights
from .io import (
    CheckpointError,
    extract_state_dict,
    find_checkpoint,
    find_snapshots,
    load_checkpoint,
    load_state_dict,
    match_structure,
    newest_sound_checkpoint,
    read_progress,
    require_resumable,
    require_same_classes,
)

if TYPE_CHECKING:  # published weights are for few runs
    from .published.official import SOURCES, load_official
    from .vit_to_kat import start_from_vit

__all__ = [
    "SOURCES",
    "CheckpointError",
    "Start",
    "begin_finetuning",
    "extract_state_dict",
    "find_checkpoint",
    "find_snapshots",
    "load_checkpoint",
    "load_initial_weights",
    "load_official",
    "load_state_dict",
    "match_structure",
    "newest_sound_checkpoint",
    "read_progress",
    "require_resumable",
    "require_same_classes",
    "start_from_vit",
]

__getattr__ = load_on_demand(__name__)
