"""The mean of the weights of the last epochs, and a run with it that is resumed."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from kanvision.callbacks import SWAWeights
from kanvision.checkpoints import load_checkpoint

from .stepwise import At, CrashError, crash, train
from .test_steps import same_end


class Watch(Callback):
    """The weights at the end of each epoch, and those that were validated after it."""

    def __init__(self) -> None:
        self.trained: list[torch.Tensor] = []
        self.validated: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if trainer.is_last_batch:
            self.trained.append(pl_module.model.head.weight.detach().clone())

    def on_validation_batch_start(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        self.validated.append(pl_module.model.head.weight.detach().clone())


@pytest.mark.parametrize("start", [1, 1 / 3])
def test_mean_of_the_last_epochs(tmp_path: Path, start: float) -> None:
    """A mean that lacks an epoch, counts one twice, or is not what is validated and saved."""
    watch = Watch()
    train(tmp_path, watch, SWAWeights(start), ema=False)
    first, second, third = watch.trained
    validated = dict.fromkeys(tuple(value.flatten().tolist()) for value in watch.validated)
    means = (first, second, (second + third) / 2)
    assert len(validated) == 3
    for found, expected in zip(validated, means, strict=True):
        torch.testing.assert_close(torch.tensor(found), expected.flatten())
    saved = load_checkpoint(tmp_path / "last.ckpt")["state_dict"]["model.head.weight"]
    torch.testing.assert_close(saved, means[-1])


@pytest.mark.parametrize("step", [6, 18])
def test_resumed_equals_uninterrupted(tmp_path: Path, step: int) -> None:
    """A count of epochs that is lost, before the start and between two epochs of the mean."""
    train(tmp_path / "whole", SWAWeights(1), ema=False)
    parts = tmp_path / "parts"
    with pytest.raises(CrashError):
        train(parts, SWAWeights(1), At(step + 1, crash), ema=False, every_n_steps=1)
    train(parts, SWAWeights(1), ema=False, resume=parts / "step.ckpt", seed=99)
    same_end(tmp_path / "whole", parts)


def test_a_negative_start_is_refused() -> None:
    with pytest.raises(ValueError, match="start=-1"):
        SWAWeights(-1)
