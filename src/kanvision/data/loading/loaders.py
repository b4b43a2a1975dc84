"""Data loaders over datasets that load whole batches, for all tasks."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from kanvision.data.fingerprints import fingerprint
from kanvision.data.seeding import derive_seed

from .samplers import EvenBatchSampler, TrainBatchSampler

__all__ = ["TrainLoader", "get_upcoming_epoch", "make_loader"]

Batch = TypeVar("Batch")


class TrainLoader(DataLoader[Any]):
    """Training loader that resumes within an epoch, after the last batch that it returned.

    Batches depend on (seed, epoch, rank, step) alone, so that the state is their number; batches that workers
    have prefetched do not count. Lightning stores `state_dict` in checkpoints.

    Args:
        dataset: Returns a batch for a list of indices (`__getitems__`).
        batches: Sampler of lists of indices.
        **options: As for torch's loader.
    """

    def __init__(self, dataset: Dataset[Any], batches: TrainBatchSampler, **options: Any) -> None:
        super().__init__(dataset, batch_sampler=batches, **options)
        self.batches = batches
        self.position = 0
        """Number of batches of the epoch that were returned."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        self.position = self.batches.start
        iterator = super().__iter__()
        self.batches.start = 0  # for the next epoch, even if no batch of this one is loaded
        return self._counted(iterator)

    def _counted(self, iterator: Iterable[Any]) -> Iterator[Any]:
        for batch in iterator:
            self.position += 1
            yield batch

    def reload_batches(self, steps: Iterable[int]) -> Iterator[Any]:
        """Load the batches of given steps of the epoch in this process, whether or not they were returned."""
        for indices in self.batches.batches(steps):
            yield self.dataset.__getitems__(indices)  # type: ignore[attr-defined]

    @cached_property
    def _fingerprint(self) -> str:
        return fingerprint(self.dataset)

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch, the position in it, and the facts that make its batches."""
        return {
            "epoch": self.batches.epoch,
            "position": self.position,
            "length": len(self),
            "images": len(self.dataset),  # type: ignore[arg-type]
            "fingerprint": self._fingerprint,
            "processes": self.batches.order.num_replicas,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume at the stored position if the epoch is the same; call it before iterating.

        Raises:
            ValueError: If an epoch of the loader has another number of batches.
        """
        if state["epoch"] != self.batches.epoch:
            return  # the checkpoint is from the end of an epoch
        if state["length"] != len(self):
            raise ValueError(
                f"resume: the checkpoint is from within an epoch of {state['length']} batches a process, "
                f"which now has {len(self)}; legal: data.batch_size, data.limit and the number of processes "
                "as they were, or a checkpoint of an epoch's end (last.ckpt)"
            )
        self.batches.start = self.position = state["position"]


def get_upcoming_epoch(trainer: Any) -> int:
    """Return the epoch that a trainer begins or resumes.

    After a resume, Lightning starts the workers of the loader before it sets the epoch of the sampler. Until
    training starts, its `current_epoch` is that of the checkpoint, even if the checkpoint is from its end.
    """
    return int(trainer.fit_loop.epoch_progress.current.processed)


def make_loader(
    dataset: Dataset[Any], batches: TrainBatchSampler | EvenBatchSampler, *, num_workers: int = 0
) -> DataLoader[Any]:
    """Return a loader of the batches of a sampler.

    Args:
        dataset: Returns a batch for a list of indices (`__getitems__`).
        batches: Sampler of lists of indices.
        num_workers: Number of loader processes; 0: load in this process.
    """
    options: dict[str, Any] = {
        "num_workers": num_workers,
        "collate_fn": _as_it_is,
        "pin_memory": torch.cuda.is_available(),
        "persistent_workers": num_workers > 0,
        "worker_init_fn": _ignore_foreign_signals,
        # The loader draws a random number, which would advance the global generator of the model.
        "generator": torch.Generator().manual_seed(derive_seed("loader")),
    }
    if isinstance(batches, TrainBatchSampler):
        return TrainLoader(dataset, batches, **options)
    return DataLoader(dataset, batch_sampler=batches, **options)


def _ignore_foreign_signals(worker: int) -> None:
    """Make a worker exit on SIGTERM of its parent process only, and ignore all other signals.

    torchrun, Slurm and terminals (Ctrl-C) send signals to all processes of a run. Workers would exit at once
    and end the run, which has to finish its step and save a checkpoint.
    """
    for name in ("SIGUSR1", "SIGUSR2", "SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # a handler in Python does not know the sender
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_exit_on_signal_of_parent, args=(os.getppid(),), daemon=True).start()


def _exit_on_signal_of_parent(parent: int) -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != parent:
        pass
    os._exit(0)


def _as_it_is(batch: Batch) -> Batch:
    return batch
