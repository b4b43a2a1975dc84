"""Finding checkpoints and loading them, ours and published ones, without running what is in them."""

from .finetune import Start, begin_finetuning, start_from
from .io import (
    CheckpointError,
    find_checkpoint,
    find_snapshots,
    load_checkpoint,
    load_state_dict,
    match_structure,
    newest_sound_checkpoint,
    progress_in,
    require_resumable,
    require_same_classes,
    state_dict_for,
)
from .published.official import SOURCES, load_official
from .vit_to_kat import start_from_vit

__all__ = [
    "SOURCES",
    "CheckpointError",
    "Start",
    "begin_finetuning",
    "find_checkpoint",
    "find_snapshots",
    "load_checkpoint",
    "load_official",
    "load_state_dict",
    "match_structure",
    "newest_sound_checkpoint",
    "progress_in",
    "require_resumable",
    "require_same_classes",
    "start_from",
    "start_from_vit",
    "state_dict_for",
]
