"""Trains on two processes, of which the second one gets a bad image in the third step.

Usage: guard_run.py <folder> raise|skip; Lightning runs it again for the second process. Each writes what its
weights have come to as rank<r>.json.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from kanvision.callbacks import NonFiniteGuard
from tests.callbacks.stepwise import train
from tests.callbacks.test_nonfinite_guard import Spoil


class Report(Callback):
    """Writes the end of training, however it comes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        weights = [parameter.detach() for parameter in pl_module.model.parameters()]
        record = {
            "steps": trainer.global_step,
            "finite": all(bool(weight.isfinite().all()) for weight in weights),
            "sums": [float(weight.double().sum()) for weight in weights],
        }
        (self.folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(record))

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: Any) -> None:
        self.on_train_end(trainer, pl_module)


if __name__ == "__main__":
    folder, mode = Path(sys.argv[1]), sys.argv[2]
    guard = NonFiniteGuard(folder / "found", mode)
    spoil = Spoil(3) if os.environ.get("LOCAL_RANK", "0") == "1" else Spoil()
    train(folder, guard, spoil, Report(folder), ema=False, max_epochs=1, devices=2, strategy="ddp")
