"""Callback that saves random states, with which a resumed run equals the uninterrupted one."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_warn

from .distributed import all_gather_object

__all__ = ["RNGState"]


class RNGState(Callback):
    """Saves the states of the generators of Python, numpy, torch and the accelerator, of every rank.

    With this callback and `EpochState`, a resumed run is equal to the uninterrupted one bit for bit, on the
    same number of processes. Lightning saves none of these states: shuffling, dropout, drop path and mixup
    would draw the numbers of the first epoch again. All states are tensors and primitives.
    """

    def __init__(self) -> None:
        self._restored: list[dict[str, Any]] | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Drop the states that an earlier run of the same trainer has loaded."""
        self._restored = None

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all ranks, in their order; a collective call."""
        return {"ranks": all_gather_object(_get_rng_state())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the states until the loop is about to start."""
        self._restored = state_dict["ranks"]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the state of this rank, before the loaders draw their seeds."""
        self._restore(trainer)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the state under a strategy that shards, which loads checkpoints after `on_fit_start`."""
        self._restore(trainer)

    def _restore(self, trainer: pl.Trainer) -> None:
        states, self._restored = self._restored, None
        if states is None:
            return
        if len(states) == trainer.world_size:
            _set_rng_state(states[trainer.global_rank])
        else:
            rank_zero_warn(
                f"The checkpoint is from {len(states)} processes, this run has {trainer.world_size}: "
                "training is resumed with other random numbers."
            )


def _get_rng_state() -> dict[str, Any]:
    version, words, gauss = random.getstate()
    # as tensors, since torch's safe loading refuses numpy arrays
    numpy_state: Any = np.random.get_state(legacy=False)
    return {
        "python": {"version": version, "words": torch.tensor(words), "gauss": gauss},
        "numpy": {
            "words": torch.from_numpy(numpy_state["state"]["key"].astype(np.int64)),
            "pos": int(numpy_state["state"]["pos"]),
            "has_gauss": int(numpy_state["has_gauss"]),
            "gauss": float(numpy_state["gauss"]),
        },
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
    }


def _set_rng_state(state: dict[str, Any]) -> None:
    python, numpy_state = state["python"], state["numpy"]
    random.setstate((python["version"], tuple(python["words"].tolist()), python["gauss"]))
    np.random.set_state(
        {
            "bit_generator": "MT19937",
            "state": {"key": numpy_state["words"].numpy().astype(np.uint32), "pos": numpy_state["pos"]},
            "has_gauss": numpy_state["has_gauss"],
            "gauss": numpy_state["gauss"],
        }
    )
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())
    if state["mps"] is not None and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"].cpu())
