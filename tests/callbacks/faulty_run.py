"""Trains on a folder of pictures of which some are broken; Lightning runs it again for a second process.

Usage: faulty_run.py <folder of pictures> <folder of the run> [--devices N] [--max-bad-samples N]

Writes what each process knows to rank<r>.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from kanvision.callbacks import (
    BadSampleCounter,
    EpochState,
    LastCheckpoint,
    RNGState,
    StepCheckpoint,
    TooManyBadSamplesError,
)
from kanvision.data import ClassificationDataModule, build_datamodule
from tests.callbacks.stepwise import Trace
from tests.data import fake
from tests.tasks.tiny_problem import TinyNet, tiny_task, tiny_trainer

BROKEN = ("train/bee/bee_7.png", "train/ant/ant_2.png", "test/bee/bee_1.png")


def broken_pictures(root: Path) -> Path:
    """Two classes of 12 and 5 pictures, three of which cannot be read."""
    for split, num in (("train", 12), ("test", 5)):
        fake.class_folders(root / split, num=num)
    for name in BROKEN:
        fake.truncated(root / name)
    return root


def data_of(root: Path, **changes: Any) -> ClassificationDataModule:
    options = {"in_chans": 3, "img_size": 8, "mean": [0.5] * 3, "std": [0.25] * 3, "batch_size": 4, "seed": 3}
    options |= {"val_fraction": 0.1, "augment": {"crop": "pad", "hflip": 0.5}, "on_bad_sample": "skip"}
    return build_datamodule("classification", name="image_folder", root=str(root), **{**options, **changes})


def train(
    root: Path,
    folder: Path,
    *more: Callback,
    resume: Path | None = None,
    seed: int = 0,
    max_bad_samples: int = 10,
    data: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[BadSampleCounter, Trace, dict[str, float]]:
    """Train two epochs and test."""
    pl.seed_everything(seed, workers=True, verbose=False)
    counter, trace = BadSampleCounter(folder / "bad_samples.csv", max_bad_samples), Trace()
    callbacks = [
        counter,
        RNGState(),
        EpochState(),
        LastCheckpoint(folder),
        StepCheckpoint(folder, None, 1),
        *more,
        trace,
    ]
    trainer = tiny_trainer(folder, callbacks=callbacks, max_epochs=2, **options)
    datamodule, task = data_of(root, **(data or {})), tiny_task(TinyNet())
    trainer.fit(task, datamodule=datamodule, ckpt_path=resume)
    (metrics,) = trainer.test(task, datamodule=datamodule, verbose=False)
    return counter, trace, dict(metrics)


class Keeper(Callback):
    """What this process knows at the end of training."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        (counter,) = [callback for callback in trainer.callbacks if isinstance(callback, BadSampleCounter)]
        self.seen = {"known": sorted(counter.known), "measured": dict(counter.measured)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--max-bad-samples", type=int, default=10)
    given = parser.parse_args()
    several = {"devices": given.devices, "strategy": "ddp"} if given.devices > 1 else {}
    keeper = Keeper()
    try:
        train(given.root, given.folder, keeper, max_bad_samples=given.max_bad_samples, **several)
    except TooManyBadSamplesError as error:
        keeper.seen["error"] = str(error)
    rank = pl.utilities.rank_zero_only.rank
    (given.folder / f"rank{rank}.json").write_text(json.dumps(keeper.seen))
