"""Lightning plugin that writes and reads checkpoint files."""

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
    """The error of a checkpoint that could not be written."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Plugin that writes a checkpoint whole or not at all, and checks its checksums when it reads one.

    The file is written to the same folder under another name, flushed to the disk and then renamed, which is
    atomic. Lightning's own plugin writes to the machine's temporary folder first. Where that is on another
    disk, as on clusters, the move is a copy, and a kill during the copy leaves a damaged file.
    """

    def save_checkpoint(
        self, checkpoint: Mapping[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint.

        Raises:
            CheckpointWriteError: If the file cannot be written; a previous file of that name is unchanged.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")  # a later save overwrites what a kill leaves of it
        try:
            with part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:  # torch raises RuntimeError if a write fails
            part.unlink(missing_ok=True)
            # torch's own message is about positions in the file
            cause = error.__context__ if isinstance(error, RuntimeError) else error
            reason = cause if isinstance(cause, OSError) else "torch could not write all of it"
            raise CheckpointWriteError(
                f"{path}: the checkpoint could not be written ({reason}); is there room on the disk? "
                "A previous checkpoint of that name is unchanged"
            ) from error
        os.replace(part, path)
        _sync_folder(path.parent)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint to the CPU.

        Raises:
            CheckpointError: If it is damaged or holds more than tensors and primitives.
        """
        return load_checkpoint(path)


def _sync_folder(folder: Path) -> None:
    """Flush the entries of a folder to the disk, where the system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
