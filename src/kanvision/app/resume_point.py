"""Checkpoint that a run resumes from, and the check that the run is still the same training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kanvision.checkpoints import (
    CheckpointError,
    find_checkpoint,
    load_checkpoint,
    newest_sound_checkpoint,
    read_progress,
    require_resumable,
    require_same_classes,
)
from kanvision.config import ConfigError, Problem, TrainConfig
from kanvision.config.checks.resume import changed_settings, epoch_end_advice, resume_problems
from kanvision.config.runtime.run_folder import list_checkpoints
from kanvision.config.stored_config import missing_plugins
from kanvision.data import ImageDataModule
from kanvision.data.fingerprints import fingerprint
from kanvision.tasks import Task

from .restore import matching_state_dict

__all__ = ["ResumePoint", "find_resume_point"]


def find_resume_point(cfg: TrainConfig) -> str | None:
    """Return the checkpoint to resume from, None for a fresh start; CheckpointError if none can be loaded."""
    if cfg.resume is None:
        return None
    if cfg.resume != "auto" and not Path(cfg.resume).is_dir():
        return str(find_checkpoint(cfg.resume))
    folder = Path(cfg.run.dir if cfg.resume == "auto" else cfg.resume)
    found = newest_sound_checkpoint(folder)
    if found is None and (names := ", ".join(path.name for path in list_checkpoints(folder))):
        raise CheckpointError(
            f"resume={cfg.resume}: no checkpoint in {folder} can be loaded ({names}), so that run cannot be "
            "resumed. Delete or rename the folder, and resume=auto starts a new run; or set "
            "run.dir=<a new folder> without resume"
        )
    return None if found is None else str(found)


class ResumePoint:
    """A checkpoint to resume from; CheckpointError if training cannot be resumed from it."""

    def __init__(self, path: str, cfg: TrainConfig) -> None:
        self.path = path
        self.checkpoint = load_checkpoint(path)
        require_resumable(self.checkpoint, path, cfg.trainer.max_epochs)
        self.config: Mapping[str, Any] = (self.checkpoint.get("kanvision") or {}).get("config") or {}
        if not self.config:
            raise CheckpointError(f"resume: {path} carries no configuration, so train.py did not write it")
        self.progress = read_progress(self.checkpoint)

    def __str__(self) -> str:
        """Return the path and the progress of training."""
        return f"{self.path} (epochs done: {self.progress.epochs}, steps: {self.progress.steps})"

    @property
    def is_within_epoch(self) -> bool:
        """True if the checkpoint is from within an epoch."""
        epochs = self.checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
        return bool(epochs["processed"] < epochs["ready"])

    def check_run(
        self, cfg: TrainConfig, datamodule: ImageDataModule, task: Task, num_processes: int
    ) -> list[str]:
        """Check that classes, settings, data and model are the same; return legal changes, a line each.

        Raises:
            CheckpointError: If the classes or the weights differ.
            ConfigError: If settings or data make it another training.
        """
        require_same_classes(self.checkpoint, self.path, datamodule.class_names)
        changes = self.check_settings(cfg) + self.check_data(datamodule, num_processes)
        matching_state_dict(task, self.checkpoint, self.path)
        return changes

    def check_settings(self, cfg: TrainConfig) -> list[str]:
        """Check that no setting makes it another training; return the others that changed, a line each.

        Raises:
            ConfigError: If there are such settings; names all of them.
        """
        self._refuse(missing_plugins(self.config))
        changes = changed_settings(self.config, cfg)
        self._refuse(resume_problems(changes, Path(self.path), within_epoch=self.is_within_epoch))
        return [str(change) for change in changes]

    def check_data(self, datamodule: ImageDataModule, num_processes: int) -> list[str]:
        """Check, within an epoch, that images and processes are the same; return changes, a line each.

        Raises:
            ConfigError: If an image would be seen twice in this epoch, or not at all.
        """
        images = datamodule.datasets["train"]
        now = {"images": len(images), "fingerprint": fingerprint(images), "processes": num_processes}
        before = self.checkpoint["loops"]["fit_loop"]["state_dict"]["combined_loader"][0]
        changed = {key for key in now if before.get(key, now[key]) != now[key]}
        if self.is_within_epoch:
            self._refuse(_data_problems(changed, before, now, datamodule.root, Path(self.path)))
        lines = []
        if changed & {"images", "fingerprint"}:
            lines.append(f"training images: {before['images']} -> {now['images']}, and not the same")
        if "processes" in changed:
            lines.append(f"processes: {before['processes']} -> {now['processes']}")
        return lines

    def _refuse(self, problems: Iterable[Problem]) -> None:
        """Raise a ConfigError if there are any problems."""
        if listed := list(problems):
            raise ConfigError(listed, f"resuming from {self.path}")


def _data_problems(
    changed: set[str], before: Mapping[str, Any], now: Mapping[str, Any], root: str | None, checkpoint: Path
) -> Iterator[Problem]:
    why = "the checkpoint is from within an epoch with {}: images would be repeated or skipped"
    if changed & {"images", "fingerprint"}:
        images = f"{before['images']} training images"
        given = f"data.root={root}: now {now['images']} training images, and not the same"
        fix = f"restore the images as they were, or {epoch_end_advice(checkpoint)}"
        yield Problem(("data.root",), (given,), why.format(images), fix)
    if "processes" in changed:
        given = f"{now['processes']} processes (trainer.devices, trainer.num_nodes)"
        fix = f"use {before['processes']} processes, or {epoch_end_advice(checkpoint)}"
        yield Problem(("trainer.devices",), (given,), why.format(f"{before['processes']} processes"), fix)
