"""Checkpoints of a run: the best by the monitored metric, the last epoch's, and one within epochs."""

from __future__ import annotations

import os
import shlex
import time
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from .atomic_io import AtomicCheckpointIO
from .distributed import AsyncAllReduce

__all__ = ["BestCheckpoint", "LastCheckpoint", "StepCheckpoint"]


class _RunCheckpoint(ModelCheckpoint):
    """Files `<name>*.ckpt` of one kind, written at the end of the epochs that earn them."""

    def __init__(self, dirpath: str | Path, name: str, suffix: str = "", **options: Any) -> None:
        super().__init__(
            dirpath=dirpath,
            filename=name + suffix,
            auto_insert_metric_name=False,
            enable_version_counter=False,
            save_on_train_epoch_end=True,
            **options,
        )
        self.name = name

    @property
    def path(self) -> Path:
        """Where `<name>.ckpt` is."""
        assert self.dirpath is not None
        return Path(self.dirpath) / f"{self.name}{self.FILE_EXTENSION}"

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Resolve the folder, which holds files when a run is resumed; have files written whole."""
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*exists and is not empty")
            super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse to train into the folder of another run.

        Raises:
            ValueError: If such a file is there already, and neither written by this run nor resumed from.
        """
        super().on_train_start(trainer, pl_module)
        folder = self.path.parent
        resumed = trainer.ckpt_path is not None and Path(trainer.ckpt_path).resolve().parent == folder
        own = resumed or bool(self._last_checkpoint_saved)
        writes = not trainer.fast_dev_run  # type: ignore[attr-defined]
        there = [path for path in folder.glob(f"{self.name}*{self.FILE_EXTENSION}") if writes and not own]
        if there := trainer.strategy.broadcast(there):
            raise ValueError(
                f"run.dir: {there[0]} belongs to another run and would be overwritten; "
                f"choose another run.dir, or go on with that run by {shlex.quote(f'resume={folder}')}"
            )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the record of the best score, also when the run's folder has been moved or renamed.

        Lightning forgets the record then, and overwrites the best checkpoint by the first one after resuming.
        A record whose file is gone is of no use: the next score is the best one.
        """
        if self.monitor is None or not state_dict["best_model_path"]:
            return
        kept = {self._here(path): score for path, score in state_dict["best_k_models"].items()}
        kept = {path: score for path, score in kept.items() if Path(path).exists()}
        best = self._here(state_dict["best_model_path"])
        if best not in kept:
            return
        worst = (min if self.mode == "max" else max)(kept, key=lambda path: float(kept[path]))
        record = {
            "dirpath": self.dirpath,
            "best_k_models": kept,
            "best_model_path": best,
            "kth_best_model_path": worst,
            "kth_value": kept[worst],
        }
        super().load_state_dict({**state_dict, **record})

    def _here(self, path: str) -> str:
        return str(self.path.parent / Path(path).name)


class BestCheckpoint(_RunCheckpoint):
    """Keeps the checkpoint of the best epoch as `best.ckpt`; a NaN never beats a number.

    Args:
        dirpath: Folder of the checkpoints.
        monitor: Logged metric.
        mode: min or max.
        keep: Number of epochs to keep; those of several are `best_<epoch>.ckpt`, and `best.ckpt` is a link to
            the best of them.

    Raises:
        ValueError: If keep is below 1.
    """

    def __init__(self, dirpath: str | Path, monitor: str, mode: str = "max", keep: int = 1) -> None:
        if keep < 1:
            raise ValueError(f"callbacks.best.keep={keep} must be at least 1")
        suffix = "" if keep == 1 else "_{epoch:04d}"
        super().__init__(dirpath, "best", suffix, monitor=monitor, mode=mode, save_top_k=keep)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save if the epoch was validated; here, and not after validation, is where training can go on."""
        if (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0:
            super().on_train_epoch_end(trainer, pl_module)

    def start_over(self) -> None:
        """Let the next score be the best one: those before are of a network that is not the same any more.

        The file of the best score so far stays until then.
        """
        self.best_k_models = {}
        self.best_model_path = self.kth_best_model_path = ""
        self.best_model_score = self.current_score = None

    def _save_checkpoint(self, trainer: pl.Trainer, filepath: str) -> None:
        super()._save_checkpoint(trainer, filepath)
        best = Path(self.best_model_path)
        if trainer.is_global_zero and best != self.path:
            link = self.path.with_suffix(".link")
            link.unlink(missing_ok=True)
            link.symlink_to(best.name)
            os.replace(link, self.path)


class LastCheckpoint(_RunCheckpoint):
    """Writes `last.ckpt` after every epoch, best or not.

    Lightning's `save_last` writes only when a best checkpoint was written, and with `save_top_k=0` only at
    the end.

    Args:
        dirpath: Folder of the checkpoints.
    """

    def __init__(self, dirpath: str | Path) -> None:
        super().__init__(dirpath, "last")


class StepCheckpoint(_RunCheckpoint):
    """Writes `step.ckpt` within epochs, from which a run goes on at the very next step.

    Once the epoch is over and `last.ckpt` written, it is of no more use and removed. It is never written
    while gradients of several batches are being gathered, which no checkpoint holds, but after their step.

    Args:
        dirpath: Folder of the checkpoints.
        every_n_minutes: Minutes since a checkpoint was last written, this one or another; None: no clock.
        every_n_steps: Optimizer steps between two of them; None: do not count.

    Raises:
        ValueError: If a number is not positive.
    """

    def __init__(
        self,
        dirpath: str | Path,
        every_n_minutes: float | None = 10.0,
        every_n_steps: int | None = None,
    ) -> None:
        for key, value in {"every_n_minutes": every_n_minutes, "every_n_steps": every_n_steps}.items():
            if value is not None and value <= 0:
                raise ValueError(f"callbacks.step.{key}={value} must be positive, or null")
        super().__init__(dirpath, "step")
        self.every_n_minutes = every_n_minutes
        self.every_n_steps = every_n_steps
        self._agreement = AsyncAllReduce()
        self._written = 0.0
        self._is_due = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        super().on_train_start(trainer, pl_module)
        self._written = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the file when it is due."""
        if self.every_n_minutes is not None:
            waited = time.monotonic() - self._written
            self._is_due |= self._agreement.largest(int(waited >= 60 * self.every_n_minutes)) > 0
        if is_between_steps(trainer, batch_idx):
            counted = self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0
            if self._is_due or counted:
                self.save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remove the file if that of the epoch's end is there."""
        last = [c for c in trainer.checkpoint_callbacks if isinstance(c, LastCheckpoint)]
        if any(c._last_global_step_saved == trainer.global_step for c in last):
            self._written, self._is_due = time.monotonic(), False
            if trainer.is_global_zero:
                self.path.unlink(missing_ok=True)

    def save(self, trainer: pl.Trainer) -> None:
        """Write the file now, unless it is there or the run writes nothing; a collective call."""
        if not self._should_skip_saving_checkpoint(trainer):
            self._save_checkpoint(trainer, str(self.path))
        self._written, self._is_due = time.monotonic(), False


def is_between_steps(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether the batch that has ended made an optimizer step and is not the last of its epoch."""
    done = batch_idx + 1
    return done % trainer.accumulate_grad_batches == 0 and done < trainer.num_training_batches
