"""A run that goes on: from which checkpoint, and whether it is still the same training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kanvision.checkpoints import (
    CheckpointError,
    find_checkpoint,
    load_checkpoint,
    newest_sound_checkpoint,
    read_progress,
    require_resumable,
)
from kanvision.config import ConfigError, Problem, TrainConfig
from kanvision.config.checks.resume import changed_settings, epoch_end_advice, resume_problems
from kanvision.config.runtime.run_folder import list_checkpoints
from kanvision.data import ImageDataModule
from kanvision.data.fingerprints import fingerprint

__all__ = ["ResumePoint", "find_resume_point"]


def find_resume_point(cfg: TrainConfig) -> str | None:
    """Return the checkpoint to go on from; None for a fresh start.

    Raises:
        CheckpointError: If there is none where `cfg.resume` says, or none that can be loaded.
    """
    if cfg.resume is None:
        return None
    if cfg.resume != "auto" and not Path(cfg.resume).is_dir():
        return str(find_checkpoint(cfg.resume))
    folder = Path(cfg.run.dir if cfg.resume == "auto" else cfg.resume)
    found = newest_sound_checkpoint(folder)
    if found is None and (names := ", ".join(path.name for path in list_checkpoints(folder))):
        raise CheckpointError(
            f"resume={cfg.resume}: no checkpoint in {folder} can be loaded ({names}); that run cannot go on. "
            "Delete or rename the folder, and resume=auto starts anew; or give run.dir=<a new folder> and no "
            "resume"
        )
    return None if found is None else str(found)


class ResumePoint:
    """A checkpoint that a run goes on from, compared with what is asked for.

    Args:
        path: The file.
        cfg: The configuration that is asked for.

    Raises:
        CheckpointError: If training cannot go on from it.
    """

    def __init__(self, path: str, cfg: TrainConfig) -> None:
        self.path = path
        self.checkpoint = load_checkpoint(path)
        require_resumable(self.checkpoint, path, cfg.trainer.max_epochs)
        self.config: Mapping[str, Any] = (self.checkpoint.get("kanvision") or {}).get("config") or {}
        if not self.config:
            raise CheckpointError(f"resume: {path} carries no configuration, so train.py did not write it")
        self.progress = read_progress(self.checkpoint)

    def __str__(self) -> str:
        """The file, and how far its training has come."""
        return f"{self.path} (epochs done: {self.progress.epochs}, steps: {self.progress.steps})"

    @property
    def is_within_epoch(self) -> bool:
        """Whether the checkpoint is from within an epoch."""
        epochs = self.checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
        return bool(epochs["processed"] < epochs["ready"])

    def check_settings(self, cfg: TrainConfig) -> list[str]:
        """Refuse settings that would make another training.

        Returns:
            The changed settings that take effect from here on, a line each.

        Raises:
            ConfigError: If there are such settings; names all of them.
        """
        changes = changed_settings(self.config, cfg)
        self._raise_for(resume_problems(changes, Path(self.path), within_epoch=self.is_within_epoch))
        return [str(change) for change in changes]

    def check_data(self, datamodule: ImageDataModule, num_processes: int) -> list[str]:
        """Refuse to go on within an epoch with other training images, or with another number of processes.

        Returns:
            What has changed since the epoch before, a line each.

        Raises:
            ConfigError: If an image would be seen twice in this epoch, or not at all.
        """
        images = datamodule.datasets["train"]
        now = {"images": len(images), "fingerprint": fingerprint(images), "processes": num_processes}
        before = self.checkpoint["loops"]["fit_loop"]["state_dict"]["combined_loader"][0]
        changed = {key for key in now if before.get(key, now[key]) != now[key]}
        if self.is_within_epoch:
            self._raise_for(_data_problems(changed, before, now, datamodule.root, Path(self.path)))
        lines = []
        if changed & {"images", "fingerprint"}:
            lines.append(f"training images: {before['images']} -> {now['images']}, and not the same")
        if "processes" in changed:
            lines.append(f"processes: {before['processes']} -> {now['processes']}")
        return lines

    def _raise_for(self, found: Iterator[Problem]) -> None:
        if problems := list(found):
            raise ConfigError(problems, f"what is to go on from {self.path}")


def _data_problems(
    changed: set[str], before: Mapping[str, Any], now: Mapping[str, Any], root: str | None, checkpoint: Path
) -> Iterator[Problem]:
    why = "the checkpoint is from within an epoch with {}: images would be repeated or skipped"
    if changed & {"images", "fingerprint"}:
        images = f"{before['images']} training images"
        given = f"data.root={root}: now {now['images']} training images, and not the same"
        fix = f"put the images back as they were, or {epoch_end_advice(checkpoint)}"
        yield Problem(("data.root",), (given,), why.format(images), fix)
    if "processes" in changed:
        given = f"{now['processes']} processes (trainer.devices, trainer.num_nodes)"
        fix = f"take {before['processes']} processes, or {epoch_end_advice(checkpoint)}"
        yield Problem(("trainer.devices",), (given,), why.format(f"{before['processes']} processes"), fix)
