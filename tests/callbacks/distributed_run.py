"""Trains or tests the tiny problem on two processes; Lightning runs it again for the second one.

Usage: distributed_run.py <folder> [<checkpoint to resume from>]

Without a checkpoint it also keeps that of the first epoch as first.ckpt, and tests the last one.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from kanvision.callbacks import BestCheckpoint, EMAWeights, LastCheckpoint, RNGState
from tests.tasks.tiny_problem import TinyData, tiny_task, tiny_trainer


class Report(Callback):
    """Writes what this process saw, one file per process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record: dict[str, Any] = {"train": [], "draws": [], "tested": [], "statistics": []}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.record["train"].append([batch["index"].tolist(), outputs["loss"].item()])
        state = torch.get_rng_state()
        self.record["draws"].append(torch.rand(1).item())
        torch.set_rng_state(state)

    def on_validation_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.record["statistics"].append(pl_module.model.norm.running_mean.tolist())

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.record["tested"] += batch["index"].tolist()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero and trainer.current_epoch == 1:
            shutil.copy(self.folder / "last.ckpt", self.folder / "first.ckpt")

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.record[stage] = {name: float(value) for name, value in trainer.callback_metrics.items()}
        (self.folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(self.record))


def main(folder: Path, resume: Path | None) -> None:
    pl.seed_everything(99 if resume else 0, workers=True, verbose=False)
    callbacks = [
        EMAWeights(0.9),
        RNGState(),
        BestCheckpoint(folder, "val/acc1"),
        LastCheckpoint(folder),
        Report(folder),
    ]
    trainer = tiny_trainer(folder, callbacks=callbacks, devices=2, strategy="ddp")
    task, data = tiny_task(), TinyData()
    trainer.fit(task, datamodule=data, ckpt_path=resume)
    if resume is None:
        trainer.test(task, datamodule=data, ckpt_path=folder / "last.ckpt", verbose=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
