"""Loaders over datasets that hand out whole batches; shared by all tasks."""

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

__all__ = ["TrainLoader", "epoch_to_come", "make_loader"]

Batch = TypeVar("Batch")


class TrainLoader(DataLoader[Any]):
    """A loader that can go on within an epoch, at the batch after those that it has given out.

    Batches are functions of (seed, epoch, rank, step) alone, so that their number is all there is to know;
    those that workers have loaded ahead do not count. Lightning keeps `state_dict` in checkpoints.

    Args:
        dataset: Gives a batch for a list of places (`__getitems__`).
        batches: Lists of places.
        **options: As for torch's loader.
    """

    def __init__(self, dataset: Dataset[Any], batches: TrainBatchSampler, **options: Any) -> None:
        super().__init__(dataset, batch_sampler=batches, **options)
        self.batches = batches
        self.position = 0
        """Number of batches of the epoch that were given out."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        self.position = self.batches.start
        iterator = super().__iter__()
        self.batches.start = 0  # for the next epoch, even if nobody asks for a batch of this one
        return self._counted(iterator)

    def _counted(self, iterator: Iterable[Any]) -> Iterator[Any]:
        for batch in iterator:
            self.position += 1
            yield batch

    def again(self, steps: Iterable[int]) -> Iterator[Any]:
        """Load batches of some steps of the epoch in this process, whether they were given out or not."""
        for indices in self.batches.batches(steps):
            yield self.dataset.__getitems__(indices)  # type: ignore[attr-defined]

    @cached_property
    def _fingerprint(self) -> str:
        return fingerprint(self.dataset)

    def state_dict(self) -> dict[str, Any]:
        """Where in which epoch the loader is, and what that epoch is made of."""
        return {
            "epoch": self.batches.epoch,
            "position": self.position,
            "length": len(self),
            "images": len(self.dataset),  # type: ignore[arg-type]
            "fingerprint": self._fingerprint,
            "processes": self.batches.order.num_replicas,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there when the epoch is the same; call it before iterating.

        Raises:
            ValueError: If an epoch of the loader has another number of batches.
        """
        if state["epoch"] != self.batches.epoch:
            return  # that of an epoch's end
        if state["length"] != len(self):
            raise ValueError(
                f"resume: the checkpoint is from within an epoch of {state['length']} batches a process, "
                f"which now has {len(self)}; legal: data.batch_size, data.limit and the number of processes "
                "as they were, or a checkpoint of an epoch's end (last.ckpt)"
            )
        self.batches.start = self.position = state["position"]


def epoch_to_come(trainer: Any) -> int:
    """The epoch that a trainer begins or goes on with.

    After a resume Lightning starts the loader's workers before it tells the sampler the epoch, and until
    training starts its `current_epoch` is that of the checkpoint, even if the checkpoint is of its end.
    """
    return int(trainer.fit_loop.epoch_progress.current.processed)


def make_loader(
    dataset: Dataset[Any], batches: TrainBatchSampler | EvenBatchSampler, *, num_workers: int = 0
) -> DataLoader[Any]:
    """A loader whose batches are what the sampler says.

    Args:
        dataset: Gives a batch for a list of places (`__getitems__`).
        batches: Lists of places.
        num_workers: Loader processes; 0: load in this process.
    """
    options: dict[str, Any] = {
        "num_workers": num_workers,
        "collate_fn": _as_it_is,
        "pin_memory": torch.cuda.is_available(),
        "persistent_workers": num_workers > 0,
        "worker_init_fn": _heed_only_parent,
        # The loader draws a number that we do not use; without its own generator it would move the model's.
        "generator": torch.Generator().manual_seed(derive_seed("loader")),
    }
    if isinstance(batches, TrainBatchSampler):
        return TrainLoader(dataset, batches, **options)
    return DataLoader(dataset, batch_sampler=batches, **options)


def _heed_only_parent(worker: int) -> None:
    """Let this worker end when the process that it works for says so, and not when somebody else does.

    torchrun, Slurm and terminals (Ctrl-C) send a signal that is meant for a run to all its processes. Workers
    would end at once, and the run with them, while it finishes its step and saves.
    """
    for name in ("SIGUSR1", "SIGUSR2", "SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # a handler in Python would not know who has sent it
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_end_when_told, args=(os.getppid(),), daemon=True).start()


def _end_when_told(parent: int) -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != parent:
        pass
    os._exit(0)


def _as_it_is(batch: Batch) -> Batch:
    return batch
