"""Samples that could not be read and that a run went on without: counted, listed, and never too many."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_warn

from .distributed import AsyncAllReduce, all_gather_object

__all__ = ["BadSampleCounter", "TooManyBadSamplesError"]

COLUMNS = ("split", "epoch", "step", "problem")
NUM_NAMED = 10

Where = tuple[int, int, str]
"""Epoch, step in it, and split in which a fault was first met."""


class TooManyBadSamplesError(ValueError):
    """More samples than the user has allowed cannot be read."""


class BadSampleCounter(Callback):
    """Counts the samples that loaders have replaced or left out (`batch["bad_samples"]`), over all processes.

    A file counts once, however often and wherever it is met. Each new one is warned of, and all are listed in
    a table, after each epoch, validation and test and at every error. Processes tell each other how many they
    have found while the next step runs, and stop together at the same step when there are too many.

    It stands first among the callbacks: a progress bar shows the means of an epoch and so begins a collective
    call, in the first process before the others come to it.

    Args:
        path: The table (csv); None: none is written.
        max_bad_samples: Files that a run may go on without; one more is an error.

    Raises:
        TooManyBadSamplesError: In all processes, when there are more.
    """

    def __init__(self, path: str | Path | None, max_bad_samples: int = 10) -> None:
        self.path = None if path is None else Path(path)
        self.max_bad_samples = max_bad_samples
        self.known: dict[str, Where] = {}
        """What is wrong (the file first), and where it was first met."""
        self.measured: dict[str, int] = {}
        """Images that the latest metrics of val and test rest on."""
        self._count = 0
        self._fresh = 0
        self._told: set[str] = set()
        self._agreement = AsyncAllReduce()

    def state_dict(self) -> dict[str, Any]:
        """Faults that any process knows of; a collective call."""
        self._unite()
        known = {problem: list(where) for problem, where in self.known.items()}
        return {"known": known, "measured": dict(self.measured)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting; a test loads a checkpoint too, which may be from before the latest fault."""
        for problem, (epoch, step, split) in state_dict["known"].items():
            where = (epoch, step, split)
            self.known[problem] = min(self.known.get(problem, where), where)
        self._told |= set(state_dict["known"])
        self.measured = {**state_dict.get("measured", {}), **self.measured}

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Count the faults of a batch."""
        self._add(trainer, "train", batch, batch_idx)

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the faults, and the images that are there."""
        self._add(trainer, "val", batch, batch_idx)

    def on_test_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the faults, and the images that are there."""
        self._add(trainer, "test", batch, batch_idx)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """List what was found."""
        self._tell(trainer)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """List what was found, and add up the images."""
        self._finish(trainer, "val")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """List what was found, and add up the images."""
        self._finish(trainer, "test")

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """List what this process knows; the others may be gone."""
        self._write(trainer)

    def lines(self) -> list[str]:
        """What was found, for people: a line each, not too many."""
        found = sorted(self.known)
        more = [f"and {len(found) - NUM_NAMED} more"] if len(found) > NUM_NAMED else []
        return [*found[:NUM_NAMED], *more]

    def _add(self, trainer: pl.Trainer, split: str, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0 and split != "train":
            self._count = 0
        self._count += len(batch["image"])
        for _, problem in batch.get("bad_samples", ()):
            if problem not in self.known:
                self.known[problem] = (trainer.current_epoch, batch_idx, split)
                self._fresh += 1
        # Only an upper bound: two processes may have met the same file. All of them have the same number.
        agreed = len(self._told) + self._agreement.total(self._fresh)
        if agreed > self.max_bad_samples:
            self._tell(trainer)

    def _finish(self, trainer: pl.Trainer, split: str) -> None:
        self.measured[split] = sum(all_gather_object(self._count))
        self._tell(trainer)

    def _unite(self) -> None:
        """Let all processes know what any of them knows; of several meetings the first one counts."""
        for known in all_gather_object(self.known):
            for problem, where in known.items():
                self.known[problem] = min(self.known.get(problem, where), where)

    def _tell(self, trainer: pl.Trainer) -> None:
        """Unite, warn, write, and stop when there are too many; a collective call."""
        self._unite()
        self._fresh = 0
        for problem in sorted(set(self.known) - self._told):
            rank_zero_warn(f"data.on_bad_sample=skip: {problem}")
        self._told = set(self.known)
        self._write(trainer)
        if len(self.known) > self.max_bad_samples:
            listed = "\n".join(f"  - {line}" for line in self.lines())
            where = f"All are listed in {self.path}. " if self.path is not None else ""
            raise TooManyBadSamplesError(
                f"data.max_bad_samples={self.max_bad_samples}, but {len(self.known)} files cannot be used:\n"
                f"{listed}\n{where}Repair or delete them, or set data.max_bad_samples higher; "
                "python eval.py mode=check_data lists every bad file of a data set"
            )

    def _write(self, trainer: pl.Trainer) -> None:
        if self.path is None or not self.known or not trainer.is_global_zero:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_name(f".{self.path.name}.part")
        with draft.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(COLUMNS)
            for problem, (epoch, step, split) in sorted(
                self.known.items(), key=lambda item: (item[1], item[0])
            ):
                table.writerow([split, epoch, step, problem])
        os.replace(draft, self.path)
