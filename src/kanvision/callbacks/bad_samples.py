"""Count of the samples that could not be read and were skipped, with a limit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_warn

from .csv_log import write_table
from .distributed import AsyncAllReduce, all_gather_object

__all__ = ["BadSampleCounter", "TooManyBadSamplesError"]

COLUMNS = ("split", "epoch", "step", "problem")
MAX_LISTED = 10

Occurrence = tuple[int, int, str]
"""Epoch, step within the epoch, and split of the first batch with a bad sample."""


class TooManyBadSamplesError(ValueError):
    """The error of a run with more unreadable samples than it may skip."""


class BadSampleCounter(Callback):
    """Counts the samples that loaders have replaced or left out (`batch["bad_samples"]`), over all ranks.

    A file counts once, however often it is read. After each epoch, validation and test and at every error,
    new files are warned of and all files are listed in a table. Ranks exchange their numbers while the next
    step runs, and stop together at the same step if there are too many.

    The callback must be the first one: a progress bar computes the means of an epoch and so begins a
    collective call, on rank 0 before the other ranks.

    Args:
        path: Path of the table (csv); None: no table is written.
        max_bad_samples: Number of files that a run may skip; one more is an error.

    Raises:
        TooManyBadSamplesError: On all ranks, if there are more.
    """

    def __init__(self, path: str | Path | None, max_bad_samples: int = 10) -> None:
        self.path = None if path is None else Path(path)
        self.max_bad_samples = max_bad_samples
        self.known: dict[str, Occurrence] = {}
        """First occurrence of each problem (a text that begins with the file)."""
        self.measured: dict[str, int] = {}
        """Number of images in the latest metrics of val and test."""
        self._num_images = 0
        self._num_new = 0
        self._reported: set[str] = set()
        self._all_reduce = AsyncAllReduce()

    def state_dict(self) -> dict[str, Any]:
        """Return the problems of all ranks; a collective call."""
        self._merge_ranks()
        known = {problem: list(first) for problem, first in self.known.items()}
        return {"known": known, "measured": dict(self.measured)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Add the problems of a checkpoint; that of a test may be older than the latest problem."""
        self._merge({problem: tuple(first) for problem, first in state_dict["known"].items()})
        self._reported |= set(state_dict["known"])
        self.measured = {**state_dict.get("measured", {}), **self.measured}

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Count the bad samples of a batch."""
        self._add(trainer, "train", batch, batch_idx)

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the bad samples and the images of a batch."""
        self._add(trainer, _split(trainer), batch, batch_idx)

    on_test_batch_start = on_validation_batch_start

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report new bad samples."""
        self._report(trainer)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report new bad samples, and add up the images."""
        self.measured[_split(trainer)] = sum(all_gather_object(self._num_images))
        self._report(trainer)

    on_test_epoch_end = on_validation_epoch_end

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Write the table of this rank; other ranks may be lost."""
        self._write(trainer)

    def lines(self) -> list[str]:
        """Return the first problems, a line each."""
        problems = sorted(self.known)
        more = [f"and {len(problems) - MAX_LISTED} more"] if len(problems) > MAX_LISTED else []
        return [*problems[:MAX_LISTED], *more]

    def _add(self, trainer: pl.Trainer, split: str, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0 and split != "train":
            self._num_images = 0
        self._num_images += len(batch["image"])
        for _, problem in batch.get("bad_samples", ()):
            if problem not in self.known:
                self.known[problem] = (trainer.current_epoch, batch_idx, split)
                self._num_new += 1
        # an upper bound, since two ranks may have read the same file; equal on all ranks
        most = len(self._reported) + self._all_reduce.sum(self._num_new)
        if most > self.max_bad_samples:
            self._report(trainer)

    def _merge(self, known: Mapping[str, Occurrence]) -> None:
        for problem, first in known.items():
            self.known[problem] = min(self.known.get(problem, first), first)

    def _merge_ranks(self) -> None:
        """Merge the problems of all ranks, each with its first occurrence; a collective call."""
        for known in all_gather_object(self.known):
            self._merge(known)

    def _report(self, trainer: pl.Trainer) -> None:
        """Merge the problems of all ranks, warn of new ones, and write the table; a collective call.

        Raises:
            TooManyBadSamplesError: If there are too many.
        """
        self._merge_ranks()
        self._num_new = 0
        for problem in sorted(set(self.known) - self._reported):
            rank_zero_warn(f"data.on_bad_sample=skip: {problem}")
        self._reported = set(self.known)
        self._write(trainer)
        if len(self.known) > self.max_bad_samples:
            listed = "\n".join(f"  - {line}" for line in self.lines())
            table = f"All are listed in {self.path}. " if self.path is not None else ""
            raise TooManyBadSamplesError(
                f"data.max_bad_samples={self.max_bad_samples}, but {len(self.known)} files cannot be used:\n"
                f"{listed}\n{table}Repair or delete them, or set data.max_bad_samples higher; "
                "mode=check_data of eval lists every bad file of a data set"
            )

    def _write(self, trainer: pl.Trainer) -> None:
        if self.path is None or not self.known or not trainer.is_global_zero:
            return
        ordered = sorted(self.known.items(), key=lambda item: (item[1], item[0]))
        rows = ([split, epoch, step, problem] for problem, (epoch, step, split) in ordered)
        write_table(self.path, COLUMNS, rows)


def _split(trainer: pl.Trainer) -> str:
    """Return the split of an evaluation."""
    return "test" if trainer.testing else "val"
