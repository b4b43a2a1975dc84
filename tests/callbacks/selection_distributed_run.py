"""Lets a network choose its bases on one or two processes, which see the same batches between them.

Usage: selection_distributed_run.py <folder> <devices>; Lightning runs it again for the second process.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from kanvision.callbacks import BasisSelection, EMAWeights
from kanvision.layers import KANLinear, structure_changes
from tests.tasks.tiny_problem import NUM_CLASSES, Blobs, Share, tiny_task, tiny_trainer


class Plain(nn.Module):
    """Nothing that depends on how a batch is shared out."""

    def __init__(self) -> None:
        super().__init__()
        self.first = KANLinear(12, 6, "selectable", norm="layer")
        self.second = KANLinear(6, NUM_CLASSES, "selectable")
        with torch.no_grad():
            self.first.basis.logits[2] = 0.5  # the wavelet, whose own parameters stay

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x[:, :, ::3, ::3].flatten(1)))  # (B, num_classes)


class Halves(pl.LightningDataModule):
    """Batches of eight images, whole or every other image of them."""

    def train_dataloader(self) -> DataLoader:
        ranks = self.trainer.world_size
        share = Share(24, self.trainer.global_rank, ranks)
        return DataLoader(Blobs(24, 1, augment=False), batch_size=8 // ranks, sampler=share)


def main(folder: Path, devices: int) -> None:
    folder.mkdir(exist_ok=True)
    pl.seed_everything(0, workers=True, verbose=False)
    task = tiny_task(
        Plain(),
        optimizer={"name": "sgd", "lr": 0.05, "momentum": 0.9, "kan_lr": 0.02},
        scheduler={"name": "constant", "warmup_epochs": 0},
        mixup={},
    )
    trainer = tiny_trainer(
        folder,
        callbacks=[EMAWeights(0.5), BasisSelection(1, 2, entropy_weight=0.1)],
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        max_epochs=5,
    )
    trainer.fit(task, datamodule=Halves())
    record = {
        "weights": {name: tensor.tolist() for name, tensor in task.model.state_dict().items()},
        "structure": structure_changes(task.model),
        "loss": float(trainer.callback_metrics["train/loss"]),
    }
    (folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(record))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
