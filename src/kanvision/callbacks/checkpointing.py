"""Checkpoints of a run: `best.ckpt` by the monitored metric, and `last.ckpt` after every epoch."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint

__all__ = ["BestCheckpoint", "LastCheckpoint"]


class _RunCheckpoint(ModelCheckpoint):
    """One file of a fixed name, written (whole or not at all) after validation of the epochs that earn it."""

    def __init__(self, dirpath: str | Path, filename: str, **options: Any) -> None:
        super().__init__(
            dirpath=dirpath,
            filename=filename,
            save_top_k=1,
            auto_insert_metric_name=False,
            enable_version_counter=False,
            **options,
        )

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Resolve the folder; that it holds files is usual when a run is resumed."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*exists and is not empty")
            super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse to train into the folder of another run.

        Raises:
            ValueError: If the file is there already, and neither written by this run nor resumed from.
        """
        super().on_train_start(trainer, pl_module)
        assert self.dirpath is not None
        path = Path(self.dirpath) / f"{self.filename}{self.FILE_EXTENSION}"
        resumed = trainer.ckpt_path is not None and Path(trainer.ckpt_path).resolve().parent == path.parent
        own = resumed or bool(self._last_checkpoint_saved)
        writes = not trainer.fast_dev_run  # type: ignore[attr-defined]
        if writes and not own and self.file_exists(str(path), trainer):
            raise ValueError(
                f"run.dir: {path} belongs to another run and would be overwritten; "
                f"choose another run.dir, or go on with that run by resume={path.parent}"
            )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the record of the best score, also when the run's folder has been moved or renamed.

        Lightning forgets the record then, and overwrites the best checkpoint by the first one after resuming.
        A record whose file is gone is of no use: the next score is the best one.
        """
        best = state_dict["best_model_path"]
        if best and not Path(best).exists() and not Path(self._here(best)).exists():
            return
        if state_dict["dirpath"] != self.dirpath and best and Path(self._here(best)).exists():
            state_dict = {
                **state_dict,
                "dirpath": self.dirpath,
                "best_model_path": self._here(best),
                "kth_best_model_path": self._here(state_dict["kth_best_model_path"]),
                "best_k_models": {self._here(k): v for k, v in state_dict["best_k_models"].items()},
                "last_model_path": self._here(state_dict["last_model_path"]),
            }
        super().load_state_dict(state_dict)

    def _here(self, path: str) -> str:
        assert self.dirpath is not None
        return str(Path(self.dirpath) / Path(path).name) if path else path


class BestCheckpoint(_RunCheckpoint):
    """Keeps the checkpoint of the best epoch as `best.ckpt`; a NaN never beats a number.

    Args:
        dirpath: Folder of the checkpoints.
        monitor: Logged metric.
        mode: min or max.
    """

    def __init__(self, dirpath: str | Path, monitor: str, mode: str = "max") -> None:
        super().__init__(dirpath, "best", monitor=monitor, mode=mode)

    def start_over(self) -> None:
        """Let the next score be the best one: those before are of a network that is not the same any more.

        The file of the best score so far stays until then.
        """
        self.best_k_models = {}
        self.best_model_path = self.kth_best_model_path = ""
        self.best_model_score = self.current_score = None


class LastCheckpoint(_RunCheckpoint):
    """Writes `last.ckpt` after every epoch, best or not.

    Lightning's `save_last` writes only when a best checkpoint was written, and with `save_top_k=0` only at
    the end.

    Args:
        dirpath: Folder of the checkpoints.
    """

    def __init__(self, dirpath: str | Path) -> None:
        super().__init__(dirpath, "last", save_on_train_epoch_end=True)
