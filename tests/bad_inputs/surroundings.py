"""Machines that lack something."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch

from kanvision.app.build import build_trainer
from kanvision.callbacks.atomic_io import AtomicCheckpointIO
from kanvision.config import compose, parse_train
from kanvision.data import READERS
from kanvision.data.loading.samplers import EvenBatchSampler

from .case import CONF, Case, typed


def below_a_file(folder: Path) -> object:
    (folder / "file").write_text("")
    return typed("run.dir={}/file/run")(folder)


def no_room(folder: Path) -> None:
    """A disk that turns out to be full when the bytes are forced onto it."""
    full = OSError(errno.ENOSPC, "No space left on device")
    with mock.patch("os.fsync", side_effect=full):
        AtomicCheckpointIO().save_checkpoint({"weights": torch.zeros(9)}, folder / "last.ckpt")


def trainer_with(*words: str) -> Callable[[Path], object]:
    return lambda folder: build_trainer(parse_train(compose("train", [*words, f"run.dir={folder}"], CONF)))


def by_hand(name: str) -> Callable[[Path], object]:
    return lambda folder: READERS[name](folder / "nothing", download=True).prepare()


CASES = (
    Case(
        "`+callbacks.best.foo=1`: a callback without such an argument",
        trainer_with("+callbacks.best.foo=1"),
        ("callbacks.best._target_=", "unexpected keyword argument 'foo'", "its arguments: dirpath"),
    ),
    Case(
        "`trainer.accelerator=xpu`, which Lightning does not have",
        trainer_with("trainer.accelerator=xpu"),
        ("trainer.accelerator=xpu", "no such kind", "cuda"),
    ),
    Case(
        "a run folder below a file", below_a_file, ("run.dir=", "is a file, not a folder", "choose another")
    ),
    Case(
        "no room for a checkpoint",
        no_room,
        ("could not be written ([Errno 28] No space left on device)", "is there room on the disk?"),
    ),
    Case(
        "`trainer=gpu` without a GPU",
        trainer_with("trainer=gpu"),
        ("trainer.accelerator=gpu", "torch finds no GPU", "take trainer=cpu"),
    ),
    Case(
        "`hydra/launcher=submitit_slurm` without its package",
        typed("hydra/launcher=submitit_slurm"),
        ("is not installed", 'pip install "kanvision[slurm]"'),
    ),
    Case("`trainer=torchrun` without torchrun", typed("trainer=torchrun"), ("trainer=torchrun", "torchrun")),
    Case(
        "`trainer=slurm` outside of a job",
        typed("trainer=slurm"),
        ("trainer=slurm is for tasks of a job of Slurm", "srun python train.py"),
    ),
    Case(
        "a variable that is not set",
        typed("data.root=${oc.env:KANVISION_NOWHERE}"),
        ("cannot be resolved", "KANVISION_NOWHERE"),
    ),
    Case(
        "`data.download=true` for data that must be got by hand",
        by_hand("imagenet"),
        ("data.download=true: this data set has no automatic download",),
    ),
    Case(
        "more processes than images",
        lambda _: EvenBatchSampler(3, 8, num_replicas=4),
        ("3 images cannot be shared by 4 processes", "use at most 3 devices"),
    ),
)
