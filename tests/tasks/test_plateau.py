"""A rate that comes down at plateaus of a metric, also after a restart."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from kanvision.callbacks import LastCheckpoint
from kanvision.checkpoints import load_checkpoint
from kanvision.optim import count_reductions

from .tiny_problem import TinyData, TinyNet, tiny_task, tiny_trainer

LR = 1e-9  # nothing is learned, so every epoch is a plateau
PLATEAU = {
    "name": "plateau",
    "warmup_epochs": 0,
    "interval": "epoch",
    "patience": 1,
    "decay_rate": 0.5,
    "monitor": "val/acc1",
    "mode": "max",
}


class Rates(Callback):
    def __init__(self) -> None:
        self.rates: list[tuple[float, ...]] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.rates.append(tuple(group["lr"] for group in trainer.optimizers[0].param_groups))


def task(**changes: Any) -> Any:
    pl.seed_everything(0, verbose=False)
    optimizer = {"name": "sgd", "lr": LR, "kan_lr": 4 * LR, "weight_decay": 0.0}
    return tiny_task(TinyNet(0.0), mixup={}, optimizer=optimizer, scheduler={**PLATEAU, **changes})


def test_the_rate_follows_the_metric_and_goes_on_after_a_restart(tmp_path: Path) -> None:
    whole, learner = Rates(), task()
    tiny_trainer(tmp_path, max_epochs=7, callbacks=[whole]).fit(learner, datamodule=TinyData())
    assert len(learner.monitored) == 7
    ratio = [first / LR for first, *_ in whole.rates]
    assert ratio == pytest.approx(
        [0.5 ** count_reductions(learner.monitored[:t], 1, "max") for t in range(7)]
    )
    assert ratio[-1] == pytest.approx(0.25)
    assert all(rates[-1] == pytest.approx(4 * rates[0]) for rates in whole.rates)  # that of the KAN

    first, second = Rates(), Rates()
    tiny_trainer(tmp_path, max_epochs=4, callbacks=[first, LastCheckpoint(tmp_path)]).fit(
        task(), datamodule=TinyData()
    )
    kept = load_checkpoint(tmp_path / "last.ckpt")["kanvision"]["monitored"]
    assert kept == learner.monitored[:4]
    tiny_trainer(tmp_path, max_epochs=7, callbacks=[second]).fit(
        task(), datamodule=TinyData(), ckpt_path=tmp_path / "last.ckpt", weights_only=True
    )
    assert first.rates + second.rates == whole.rates


def test_epochs_without_a_validation_do_not_wait(tmp_path: Path) -> None:
    rates, learner = Rates(), task()
    trainer = tiny_trainer(tmp_path, max_epochs=6, callbacks=[rates], check_val_every_n_epoch=2)
    trainer.fit(learner, datamodule=TinyData())
    assert len(learner.monitored) == 3
    assert [first / LR for first, *_ in rates.rates] == pytest.approx([1.0] * 6)
