"""A classification problem that trains in a second: shared by the tests of tasks and callbacks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from timm.layers import DropPath
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.data.distributed import DistributedSampler

from kanvision.tasks import ClassificationTask

NUM_CLASSES = 7
NUM_TRAIN, NUM_TEST = 27, 19  # odd, so that last batches are odd and ranks get unequal shares


class Blobs(Dataset):
    """Noise around one pattern per class; training images get new noise at every reading."""

    def __init__(self, size: int, seed: int, augment: bool) -> None:
        generator = torch.Generator().manual_seed(seed)
        patterns = torch.randn(NUM_CLASSES, 3, 6, 6, generator=torch.Generator().manual_seed(0))
        self.targets = torch.arange(size) % NUM_CLASSES
        self.images = patterns[self.targets] + 0.5 * torch.randn(size, 3, 6, 6, generator=generator)
        self.augment = augment

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = self.images[index]
        if self.augment:
            image = image + 0.1 * torch.randn(3, 1, 1)
        return {"image": image, "target": self.targets[index], "index": index}


class Share(Sampler[int]):
    """Every rank-th index, without padding."""

    def __init__(self, size: int, rank: int, world_size: int) -> None:
        self.indices = range(rank, size, world_size)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


class TinyData(pl.LightningDataModule):
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    class_names = tuple(f"class {i}" for i in range(NUM_CLASSES))

    def __init__(self, num_workers: int = 0, batch_size: int = 5) -> None:
        super().__init__()
        self.num_workers, self.batch_size = num_workers, batch_size

    def train_dataloader(self) -> DataLoader:
        data = Blobs(NUM_TRAIN, 1, augment=True)
        ranks = self.trainer.world_size
        sampler = (
            DistributedSampler(data, ranks, self.trainer.global_rank, drop_last=True) if ranks > 1 else None
        )
        return DataLoader(
            data,
            batch_size=self.batch_size,
            shuffle=sampler is None,
            sampler=sampler,
            num_workers=self.num_workers,
        )

    def val_dataloader(self) -> DataLoader:
        data = Blobs(NUM_TEST, 2, augment=False)
        share = Share(len(data), self.trainer.global_rank, self.trainer.world_size)
        return DataLoader(data, batch_size=self.batch_size, sampler=share, num_workers=self.num_workers)

    def test_dataloader(self) -> DataLoader:
        return self.val_dataloader()


class TinyNet(nn.Module):
    """Everything that draws random numbers or keeps statistics, and a KAN parameter."""

    kan_parameters = ("basis_weight",)

    def __init__(self, drop_rate: float = 0.3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.basis_weight = nn.Parameter(torch.randn(8, 8, 1, 1) * 0.1)
        self.drop_path = DropPath(drop_rate)
        self.drop = nn.Dropout(drop_rate)
        self.head = nn.Linear(8, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()  # (B, D, H, W)
        x = x + self.drop_path(nn.functional.conv2d(x.tanh(), self.basis_weight))
        return self.head(self.drop(x.mean((2, 3))))  # (B, num_classes)


def tiny_task(model: nn.Module | None = None, **changes: Any) -> ClassificationTask:
    options: dict[str, Any] = {
        "num_classes": NUM_CLASSES,
        "optimizer": {"name": "adamw", "lr": 0.02, "weight_decay": 0.05, "kan_lr": 0.005},
        "scheduler": {"name": "cosine", "warmup_epochs": 1, "warmup_lr": 1e-4, "interval": "step"},
        "loss": {"name": "cross_entropy", "label_smoothing": 0.1},
        "mixup": {"mixup_alpha": 0.8, "cutmix_alpha": 1.0},
        "config": {"model": {"name": "tiny", "size": 8}, "seed": 0},
    }
    return ClassificationTask(TinyNet() if model is None else model, **{**options, **changes})


def tiny_trainer(folder: str | Path, **changes: Any) -> pl.Trainer:
    options: dict[str, Any] = {
        "default_root_dir": folder,
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 3,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
    }
    options.update(changes)
    options["enable_checkpointing"] = any(
        isinstance(c, pl.callbacks.Checkpoint) for c in options.get("callbacks", [])
    )
    return pl.Trainer(**options)
