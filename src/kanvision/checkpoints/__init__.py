"""Finding checkpoints and loading them without running what is in them."""

from .io import (
    CheckpointError,
    find_checkpoint,
    load_checkpoint,
    load_state_dict,
    match_structure,
    newest_sound_checkpoint,
    require_resumable,
    state_dict_for,
)

__all__ = [
    "CheckpointError",
    "find_checkpoint",
    "load_checkpoint",
    "load_state_dict",
    "match_structure",
    "newest_sound_checkpoint",
    "require_resumable",
    "state_dict_for",
]
