"""Checkpoint callbacks: the best by the monitored metric, the last epoch's, one within epochs, snapshots."""

from __future__ import annotations

import os
import shlex
import time
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from .atomic_io import AtomicCheckpointIO
from .distributed import AsyncAllReduce

__all__ = ["BestCheckpoint", "LastCheckpoint", "StepCheckpoint", "WeightSnapshots"]


class _RunCheckpoint(ModelCheckpoint):
    """Base of the callbacks that write files `<name>*.ckpt` at the end of epochs."""

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
        """Path of `<name>.ckpt`."""
        assert self.dirpath is not None
        return Path(self.dirpath) / f"{self.name}{self.FILE_EXTENSION}"

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Resolve the folder, which may hold files of a resumed run, and write files atomically."""
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*exists and is not empty")
            super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check that the folder holds no checkpoints of another run.

        Raises:
            ValueError: If it holds a file that this run has neither written nor resumed from.
        """
        super().on_train_start(trainer, pl_module)
        folder = self.path.parent
        resumed = trainer.ckpt_path is not None and Path(trainer.ckpt_path).resolve().parent == folder
        own = resumed or bool(self._last_checkpoint_saved)
        writes = not trainer.fast_dev_run  # type: ignore[attr-defined]
        others = [path for path in folder.glob(f"{self.name}*{self.FILE_EXTENSION}") if writes and not own]
        if others := trainer.strategy.broadcast(others):
            raise ValueError(
                f"run.dir: {others[0]} belongs to another run and would be overwritten; "
                f"choose another run.dir, or resume that run by {shlex.quote(f'resume={folder}')}"
            )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best scores, even if the run's folder was moved or renamed.

        Lightning drops them then, and overwrites the best checkpoint by the first one after the resume. If
        the file of the best score is missing, the next score is the best one.
        """
        if self.monitor is None or not state_dict["best_model_path"]:
            return
        scores = {self._relocate(path): score for path, score in state_dict["best_k_models"].items()}
        scores = {path: score for path, score in scores.items() if Path(path).exists()}
        best = self._relocate(state_dict["best_model_path"])
        if best not in scores:
            return
        worst = (min if self.mode == "max" else max)(scores, key=lambda path: float(scores[path]))
        relocated = {
            "dirpath": self.dirpath,
            "best_k_models": scores,
            "best_model_path": best,
            "kth_best_model_path": worst,
            "kth_value": scores[worst],
        }
        super().load_state_dict({**state_dict, **relocated})

    def _relocate(self, path: str) -> str:
        """Return the path of a checkpoint in the folder that the run has now."""
        return str(self.path.parent / Path(path).name)


class BestCheckpoint(_RunCheckpoint):
    """Keeps the checkpoint of the best epoch as `best.ckpt`; a NaN never beats a number.

    Args:
        dirpath: Folder of the checkpoints.
        monitor: Logged metric.
        mode: min or max.
        keep: Number of epochs to keep. Above 1, files are `best_<epoch>.ckpt`, and `best.ckpt` links to the
            best one.

    Raises:
        ValueError: If keep is below 1.
    """

    def __init__(self, dirpath: str | Path, monitor: str, mode: str = "max", keep: int = 1) -> None:
        if keep < 1:
            raise ValueError(f"callbacks.best.keep={keep} must be at least 1")
        suffix = "" if keep == 1 else "_{epoch:04d}"
        super().__init__(dirpath, "best", suffix, monitor=monitor, mode=mode, save_top_k=keep)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save if the epoch was validated; unlike after validation, training can be resumed from here."""
        if (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0:
            super().on_train_epoch_end(trainer, pl_module)

    def reset_best(self) -> None:
        """Drop the best scores, which are of a model with another structure; the next score is the best.

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
    """

    def __init__(self, dirpath: str | Path) -> None:
        super().__init__(dirpath, "last")


class StepCheckpoint(_RunCheckpoint):
    """Writes `step.ckpt` within epochs, from which a run resumes at the next step.

    The file is removed at the end of the epoch, when `last.ckpt` is written. It is written only after an
    optimizer step, since no checkpoint holds accumulated gradients.

    Args:
        dirpath: Folder of the checkpoints.
        every_n_minutes: Minutes since the last checkpoint of any kind; None: not by time.
        every_n_steps: Optimizer steps between two of these checkpoints; None: not by steps.

    Raises:
        ValueError: If a number is not positive.
    """

    def __init__(
        self, dirpath: str | Path, every_n_minutes: float | None = 10.0, every_n_steps: int | None = None
    ) -> None:
        for key, value in {"every_n_minutes": every_n_minutes, "every_n_steps": every_n_steps}.items():
            if value is not None and value <= 0:
                raise ValueError(f"callbacks.step.{key}={value} must be positive, or null")
        super().__init__(dirpath, "step")
        self.every_n_minutes = every_n_minutes
        self.every_n_steps = every_n_steps
        self._all_reduce = AsyncAllReduce()
        self._written = 0.0
        self._is_due = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        super().on_train_start(trainer, pl_module)
        self._written = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the file if it is due."""
        if self.every_n_minutes is not None:
            waited = time.monotonic() - self._written
            self._is_due |= self._all_reduce.max(int(waited >= 60 * self.every_n_minutes)) > 0
        if is_between_steps(trainer, batch_idx):
            counted = self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0
            if self._is_due or counted:
                self.save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remove the file if the checkpoint of the epoch's end was written."""
        last = [c for c in trainer.checkpoint_callbacks if isinstance(c, LastCheckpoint)]
        if any(c._last_global_step_saved == trainer.global_step for c in last):
            self._written, self._is_due = time.monotonic(), False
            if trainer.is_global_zero:
                self.path.unlink(missing_ok=True)

    def save(self, trainer: pl.Trainer) -> None:
        """Write the file now, unless it exists or the run writes nothing; a collective call."""
        if not self._should_skip_saving_checkpoint(trainer):
            self._save_checkpoint(trainer, str(self.path))
        self._written, self._is_due = time.monotonic(), False


class WeightSnapshots(Callback):
    """Writes `epoch_<n>.ckpt` after n epochs, from n = 0 on, and keeps all of them.

    The files hold weights and configuration without the optimizer's state: `eval.py` reads them, and no run
    can resume from them.

    Args:
        dirpath: Folder of the checkpoints.
        every_n_epochs: Number of epochs between two of them; the last epoch is always written.

    Raises:
        ValueError: If every_n_epochs is below 1.
    """

    def __init__(self, dirpath: str | Path, every_n_epochs: int = 1) -> None:
        if every_n_epochs < 1:
            raise ValueError(f"callbacks.snapshots.every_n_epochs={every_n_epochs} must be at least 1")
        self.dirpath = Path(dirpath)
        self.every_n_epochs = every_n_epochs

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the initial weights, but not those of a resumed run."""
        if trainer.global_step == 0:
            self._save(trainer, 0)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the weights every `every_n_epochs` epochs and after the last one."""
        num_epochs = trainer.current_epoch + 1
        if num_epochs % self.every_n_epochs == 0 or num_epochs == trainer.max_epochs:
            self._save(trainer, num_epochs)

    def _save(self, trainer: pl.Trainer, num_epochs: int) -> None:
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(self.dirpath / f"epoch_{num_epochs:03d}.ckpt", weights_only=True)


def is_between_steps(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Return True if the batch that has ended made an optimizer step and is not the last of its epoch."""
    done = batch_idx + 1
    return done % trainer.accumulate_grad_batches == 0 and done < trainer.num_training_batches
