"""Bad checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kanvision.app.restore import restore
from kanvision.app.resume_point import ResumePoint, find_resume_point
from kanvision.checkpoints import find_checkpoint, load_checkpoint, load_state_dict, require_resumable
from kanvision.config import EvalConfig, TrainConfig, compose, parse_train, to_primitive

from .case import CONF, Case
from .files import Touch


def file(content: bytes) -> Callable[[Path], object]:
    """A file that is called last.ckpt."""

    def give(folder: Path) -> None:
        (folder / "last.ckpt").write_bytes(content)
        load_checkpoint(folder / "last.ckpt")

    return give


def saved(content: Any, use: Callable[[Path], object]) -> Callable[[Path], object]:
    """Something that torch has saved."""

    def give(folder: Path) -> None:
        torch.save(content, folder / "last.ckpt")
        use(folder / "last.ckpt")

    return give


def cut_off(folder: Path) -> None:
    path = folder / "last.ckpt"
    torch.save({"state_dict": nn.Linear(64, 64).state_dict()}, path)
    path.write_bytes(path.read_bytes()[:5000])
    load_checkpoint(path)


def evaluate(path: Path) -> None:
    restore(EvalConfig(ckpt=str(path)))


def load_into_three(path: Path) -> None:
    load_state_dict(nn.Linear(4, 3), load_checkpoint(path))


def resume(path: Path) -> None:
    require_resumable(load_checkpoint(path), path, max_epochs=5)


def other_version(folder: Path) -> None:
    config = to_primitive(parse_train(compose("train", [f"run.dir={folder}"], CONF)))
    config["optimizer"]["beta3"] = 0.9
    saved({"kanvision": {"config": config}, "state_dict": {}}, evaluate)(folder)


def flipped(folder: Path) -> None:
    path, weight = folder / "last.ckpt", torch.full((64,), 1.5)
    torch.save({"state_dict": {"weight": weight}}, path)
    content = bytearray(path.read_bytes())
    content[content.index(weight.numpy().tobytes()) + 2] ^= 1
    path.write_bytes(content)
    load_checkpoint(path)


def configured(folder: Path, *words: str) -> TrainConfig:
    return parse_train(
        compose("train", [f"run.dir={folder}", "resume=auto", "data.batch_size=64", *words], CONF)
    )


def none_is_sound(folder: Path) -> None:
    (folder / "last.ckpt").write_bytes(b"hello")
    find_resume_point(configured(folder))


def go_on(*words: str, within_epoch: bool = False) -> Callable[[Path], object]:
    """A run that goes on with other settings."""

    def give(folder: Path) -> None:
        path = folder / ("step.ckpt" if within_epoch else "last.ckpt")
        loop = {"epoch_progress": {"current": {"processed": 1, "ready": 1 + within_epoch}}}
        loop["epoch_loop.batch_progress"] = {"total": {"processed": 9}}
        content = {"kanvision": {"config": to_primitive(configured(folder))}, "loops": {"fit_loop": loop}}
        torch.save({**content, "epoch": 0, "global_step": 9}, path)
        asked = configured(folder, *words)
        ResumePoint(str(path), asked).check_settings(asked)

    return give


FOUR = {"state_dict": {f"model.{name}": value for name, value in nn.Linear(4, 4).state_dict().items()}}
CASES = (
    Case(
        "`ckpt=nowhere`",
        lambda folder: find_checkpoint(folder / "nowhere"),
        ("nowhere: no such file or folder",),
    ),
    Case(
        "`ckpt=latest` before any run",
        lambda folder: find_checkpoint("latest", runs_root=folder),
        ("ckpt=latest: no checkpoint below",),
    ),
    Case(
        "a folder without a checkpoint",
        find_checkpoint,
        ("neither best.ckpt nor last.ckpt", "checkpoints below: none"),
    ),
    Case("a file of 0 bytes", file(b""), ("last.ckpt: the file is empty", "the disk was full")),
    Case("a file that is cut off", cut_off, ("last.ckpt: the file is cut off or no checkpoint",)),
    Case(
        "a flipped bit in a weight",
        flipped,
        ("the file is damaged, 'last/data/0' in it is not as it was written (CRC-32)", "take another"),
    ),
    Case(
        "`resume=auto` where no checkpoint is sound",
        none_is_sound,
        ("no checkpoint in … can be loaded (last.ckpt)", "Delete or rename the folder"),
    ),
    Case(
        "`resume` with another seed and another optimizer",
        go_on("seed=2", "optimizer.name=sgd"),
        ("1. optimizer.name=sgd", "2. seed=2", "has seed=42", "finetune.init_from=…/last.ckpt"),
    ),
    Case(
        "`resume` within an epoch, with another batch",
        go_on("data.batch_size=15", within_epoch=True),
        (
            "data.batch_size=15",
            "within an epoch with data.batch_size=64",
            "start a new run in another run.dir",
        ),
    ),
    Case(
        "a text",
        file(b"hello"),
        ("last.ckpt: the file is cut off or no checkpoint",),
    ),
    Case(
        "code in a checkpoint",
        saved({"state_dict": Touch()}, load_checkpoint),
        ("refused, for it holds Python objects", "nothing of it was run", "save the bare weights"),
    ),
    Case(
        "a whole network instead of its weights",
        saved(nn.Linear(2, 2), load_checkpoint),
        ("refused, for it holds Python objects", "torch.nn.modules.linear.Linear"),
    ),
    Case("a list", saved([1, 2], load_checkpoint), ("holds a list, not a checkpoint, which is a dict",)),
    Case(
        "weights of another network",
        saved(FOUR, load_into_three),
        ("2 of another shape: weight (4, 4), not (3, 4), bias (4,), not (3,)",),
    ),
    Case(
        "weights alone, to be evaluated",
        saved(FOUR, evaluate),
        ("carries no configuration", "eval.py evaluates checkpoints of train.py"),
    ),
    Case(
        "weights alone, to go on from",
        saved(FOUR, resume),
        ("holds weights alone; legal are checkpoints of train.py",),
    ),
    Case(
        "a run that is over already",
        saved({**FOUR, "loops": {}, "epoch": 7}, resume),
        ("8 epochs behind it, but trainer.max_epochs=5; legal: 8 or more",),
    ),
    Case(
        "a configuration of another version",
        other_version,
        ("1 problem in the configuration in …/last.ckpt", "optimizer.beta3", "unknown key"),
    ),
)
