"""The averaged weights: what they are, and that they are what is validated, saved and tested."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from timm.utils import ModelEmaV3
from torch.utils.data import DataLoader

from kanvision.callbacks import BestCheckpoint, EMAWeights, LastCheckpoint
from kanvision.checkpoints import load_checkpoint, load_state_dict
from tests.tasks.tiny_problem import Blobs, TinyData, TinyNet, tiny_task, tiny_trainer


class Watch(Callback):
    """Feeds timm's average with the same weights, and keeps the weights that are validated."""

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.validated: dict[str, torch.Tensor] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.timm = ModelEmaV3(pl_module.model, decay=self.decay, foreach=False)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.timm.update(pl_module.model)

    def on_validation_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.validated = {k: v.clone() for k, v in pl_module.model.state_dict().items()}


def close(left: dict[str, Any], right: dict[str, Any]) -> bool:
    assert left.keys() == right.keys()
    return all(torch.allclose(left[k].float(), right[k].float(), atol=1e-6) for k in left)


def network(state_dict: dict[str, Any]) -> dict[str, Any]:
    return {k.removeprefix("model."): v for k, v in state_dict.items()}


def test_average_equals_timm_and_is_what_is_validated_saved_and_kept(tmp_path: Path) -> None:
    pl.seed_everything(0, verbose=False)
    ema, watch = EMAWeights(0.9), Watch(0.9)
    # the average is registered after the watch, so that the watch sees the training weights
    callbacks = [watch, ema, BestCheckpoint(tmp_path, "val/acc1"), LastCheckpoint(tmp_path)]
    task = tiny_task()
    tiny_trainer(tmp_path, callbacks=callbacks, max_epochs=2).fit(task, datamodule=TinyData())
    expected = watch.timm.module.state_dict()
    last = load_checkpoint(tmp_path / "last.ckpt")
    assert close(network(last["state_dict"]), expected)
    assert close(watch.validated, expected)
    assert close(task.model.state_dict(), expected)
    assert not close(network(last["current_model_state"]), expected)
    assert last["state_dict"]["model.norm.num_batches_tracked"] == 12


@pytest.mark.parametrize("warmup", [False, True])
def test_average_follows_the_formula(tmp_path: Path, warmup: bool) -> None:
    task = tiny_task(TinyNet())
    ema = EMAWeights(0.8, warmup=warmup)
    trainer = tiny_trainer(tmp_path)
    trainer.strategy.connect(task)
    ema.setup(trainer, task, "fit")
    average = task.model.head.weight.detach().clone()
    for t in range(12):
        with torch.no_grad():
            task.model.head.weight.add_(torch.randn_like(task.model.head.weight))
        d = min(0.8, (1 + t) / (10 + t)) if warmup else 0.8
        assert ema.step_weight(trainer) == 1 - d
        average = d * average + (1 - d) * task.model.head.weight.detach()
        ema.update(task, ema.step_weight(trainer))
    assert torch.allclose(ema._average_model.module.model.head.weight, average, atol=1e-6)
    # constants do not drift
    assert torch.equal(ema._average_model.module.model.stem.weight, task.model.stem.weight)


def fit_half(folder: Path, epochs: int, *more: Callback, resume: Path | None = None) -> pl.LightningModule:
    """Train a network in bfloat16 without random numbers."""
    pl.seed_everything(0, verbose=False)
    network = TinyNet(drop_rate=0.0).to(torch.bfloat16).float()
    data = [Blobs(10, 1, augment=False)[index] for index in range(10)]
    folder.mkdir(exist_ok=True)
    callbacks = [EMAWeights(0.9999), LastCheckpoint(folder), *more]
    trainer = tiny_trainer(folder, callbacks=callbacks, max_epochs=epochs, precision="bf16-true")
    task, loader = tiny_task(network, mixup={}), DataLoader(data, batch_size=5)
    trainer.fit(task, loader, loader, ckpt_path=resume, weights_only=True)
    return task


class Float32Average(Callback):
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.weight = pl_module.model.head.weight.detach().float().clone()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.weight.lerp_(pl_module.model.head.weight.detach().float(), 1e-4)


def test_average_of_a_bfloat16_network_has_full_precision(tmp_path: Path) -> None:
    """In bfloat16 an average with a decay of 0.9999 would never move, and validation would round it."""
    average = Float32Average()
    task = fit_half(tmp_path, 2, average)
    saved = load_checkpoint(tmp_path / "last.ckpt")
    found = saved["state_dict"]["model.head.weight"]
    torch.testing.assert_close(found, average.weight, rtol=0, atol=1e-8)
    assert not torch.equal(found, found.bfloat16().float())
    assert saved["current_model_state"]["model.head.weight"].dtype == torch.bfloat16
    assert torch.equal(task.model.head.weight, found.bfloat16())


def test_a_bfloat16_network_with_average_resumes_exactly(tmp_path: Path) -> None:
    fit_half(tmp_path / "whole", 2)
    fit_half(tmp_path / "parts", 1)
    fit_half(tmp_path / "parts", 2, resume=tmp_path / "parts" / "last.ckpt")
    whole, parts = (load_checkpoint(tmp_path / name / "last.ckpt") for name in ("whole", "parts"))
    for key in ("state_dict", "current_model_state"):
        assert whole[key].keys() == parts[key].keys()
        assert all(torch.equal(value, parts[key][name]) for name, value in whole[key].items())


def test_what_is_loaded_is_what_is_tested(tmp_path: Path) -> None:
    """Lightning's own callback loads the raw weights over the average, and swaps a stale average in."""
    pl.seed_everything(0, verbose=False)
    path = tmp_path / "other" / "last.ckpt"
    callbacks = [EMAWeights(0.97), LastCheckpoint(path.parent)]
    tiny_trainer(tmp_path, callbacks=callbacks, max_epochs=1).fit(tiny_task(), datamodule=TinyData())
    other = load_checkpoint(path)
    fresh = tiny_task()
    load_state_dict(fresh.model, other)
    expected = tiny_trainer(tmp_path).test(fresh, datamodule=TinyData(), verbose=False)[0]

    task = tiny_task()
    trainer = tiny_trainer(tmp_path, callbacks=[EMAWeights(0.97)], max_epochs=2)
    trainer.fit(task, datamodule=TinyData())
    for evaluate, prefix in ((trainer.test, "test/"), (trainer.validate, "val/")):
        scores = evaluate(task, datamodule=TinyData(), ckpt_path=path, verbose=False)[0]
        assert scores[f"{prefix}loss"] == expected["test/loss"]
    assert torch.equal(task.model.head.weight, other["state_dict"]["model.head.weight"])
    assert not torch.equal(task.model.head.weight, other["current_model_state"]["model.head.weight"])


class Interrupt(Callback):
    def on_validation_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.current_epoch == 1:
            raise RuntimeError("within validation")


def test_an_exception_within_validation_leaves_the_training_weights(tmp_path: Path) -> None:
    pl.seed_everything(0, verbose=False)
    task, ema = tiny_task(), EMAWeights(0.97)
    watch = Watch(0.97)
    trainer = tiny_trainer(tmp_path, callbacks=[watch, ema, Interrupt()])
    with pytest.raises(RuntimeError, match="within validation"):
        trainer.fit(task, datamodule=TinyData())
    average = watch.timm.module.state_dict()
    assert close(watch.validated, average)
    assert not close(task.model.state_dict(), average)


def test_training_on_from_a_checkpoint_without_average(tmp_path: Path) -> None:
    pl.seed_everything(0, verbose=False)
    tiny_trainer(tmp_path, callbacks=[LastCheckpoint(tmp_path)], max_epochs=1).fit(
        tiny_task(), datamodule=TinyData()
    )
    start = load_checkpoint(tmp_path / "last.ckpt")["state_dict"]
    ema = EMAWeights(1 - 1e-6)
    trainer = tiny_trainer(tmp_path, callbacks=[ema, LastCheckpoint(tmp_path)], max_epochs=2)
    with pytest.warns(UserWarning, match="not created with WeightAveraging"):
        trainer.fit(tiny_task(), datamodule=TinyData(), ckpt_path=tmp_path / "last.ckpt")
    assert close(
        load_checkpoint(tmp_path / "last.ckpt")["state_dict"],
        start | {"model.norm.num_batches_tracked": torch.tensor(12)},
    )


@pytest.mark.parametrize("decay", [0.0, 1.0, 1.5])
def test_illegal_decay(decay: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        EMAWeights(decay)
