"""Checkpoints to the disk and back, as Lightning asks for it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from kanvision.checkpoints import load_checkpoint

__all__ = ["AtomicCheckpointIO", "CheckpointWriteError"]


class CheckpointWriteError(OSError):
    """A checkpoint could not be written."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all, whatever happens meanwhile, and reads it with its checksums.

    It is written beside its place, forced onto the disk and then renamed, which nobody ever sees half done.
    Lightning's own writes into the machine's folder for temporary files first; where that is on another disk,
    as on clusters, moving it is copying, and a kill while it copies leaves half a file in the place of the
    sound one.
    """

    def save_checkpoint(
        self, checkpoint: Mapping[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write it.

        Raises:
            CheckpointWriteError: If the disk does not take it; the file that was there before is as it was.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")  # a later save overwrites what a kill leaves of it
        try:
            with part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:  # torch says RuntimeError where a write fails
            part.unlink(missing_ok=True)
            # torch's own words are of positions in the file
            cause = error.__context__ if isinstance(error, RuntimeError) else error
            reason = cause if isinstance(cause, OSError) else "torch could not write all of it"
            raise CheckpointWriteError(
                f"{path}: the checkpoint could not be written ({reason}); is there room on the disk? "
                "A checkpoint of that name that was there before is as it was"
            ) from error
        os.replace(part, path)
        _force_entry(path.parent)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read it to the CPU.

        Raises:
            CheckpointError: If it is damaged or holds more than tensors and primitives.
        """
        return load_checkpoint(path)


def _force_entry(folder: Path) -> None:
    """Force a folder's list of names onto the disk, where the system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
