"""A resumed run equals the uninterrupted one, bit for bit."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from kanvision.callbacks import BestCheckpoint, EMAWeights, LastCheckpoint, RNGState
from kanvision.checkpoints import load_checkpoint
from tests.tasks.tiny_problem import TinyData, tiny_task, tiny_trainer


class StopAfter(Callback):
    """Ends training after some epochs, as a crash would: the schedule is that of the whole run."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = trainer.current_epoch + 1 >= self.epochs


class Trace(Callback):
    """What every step saw: the images, the learning rates, the loss."""

    def __init__(self) -> None:
        self.steps: list[tuple[Any, ...]] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
        self.steps.append(
            (batch["index"].tolist(), batch["image"].sum().item(), rates, outputs["loss"].item())
        )


def run(
    folder: Path, *, stop: int | None = None, resume: Path | None = None, seed: int = 0, **options: Any
) -> tuple[dict[str, Any], Trace]:
    """Train three epochs, or up to `stop`, and give the last checkpoint."""
    pl.seed_everything(seed, workers=True, verbose=False)
    trace = Trace()
    callbacks: list[Callback] = [
        trace,
        RNGState(),
        BestCheckpoint(folder, "val/acc1"),
        LastCheckpoint(folder),
    ]
    if options.pop("ema", True):
        callbacks.insert(0, EMAWeights(0.9, warmup=True))
    if stop is not None:
        callbacks.append(StopAfter(stop))
    if options.pop("rng_state", True) is False:
        callbacks = [c for c in callbacks if not isinstance(c, RNGState)]
    callbacks += options.pop("more", [])
    data = TinyData(options.pop("num_workers", 0), options.pop("batch_size", 5))
    task = tiny_task(**options.pop("task", {}))
    trainer = tiny_trainer(folder, callbacks=callbacks, **options)
    trainer.fit(task, datamodule=data, ckpt_path=resume)
    return load_checkpoint(folder / "last.ckpt"), trace


def assert_same(left: Any, right: Any, path: str = "") -> None:
    assert type(left) is type(right), path
    if isinstance(left, dict):
        assert left.keys() == right.keys(), path
        for key in left:
            assert_same(left[key], right[key], f"{path}/{key}")
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), path
        for index, (a, b) in enumerate(zip(left, right, strict=True)):
            assert_same(a, b, f"{path}/{index}")
    elif isinstance(left, torch.Tensor):
        assert torch.equal(left, right), path
    else:
        assert left == right, path


def without_paths(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """What must agree: everything but the records of where files lie and of how often loops were entered."""
    callbacks = {k: v for k, v in checkpoint["callbacks"].items() if "Checkpoint" not in k}
    return {k: v for k, v in checkpoint.items() if k not in ("callbacks", "loops")} | {"callbacks": callbacks}


def best_score(checkpoint: dict[str, Any]) -> float:
    states = checkpoint["callbacks"]
    return next(float(v["best_model_score"]) for k, v in states.items() if k.startswith("BestCheckpoint"))


@pytest.mark.parametrize(
    ("interval", "stop", "options"),
    [
        ("step", 1, {}),
        ("step", 2, {"num_workers": 2}),
        ("epoch", 1, {"ema": False}),
        ("epoch", 2, {"accumulate_grad_batches": 4}),
        ("step", 1, {"accumulate_grad_batches": 4, "check_val_every_n_epoch": 2}),
    ],
)
def test_resumed_equals_uninterrupted(
    tmp_path: Path, interval: str, stop: int, options: dict[str, Any]
) -> None:
    scheduler = {"name": "cosine", "warmup_epochs": 1, "warmup_lr": 1e-4, "interval": interval}
    options["task"] = {"scheduler": scheduler}
    whole, trace = run(tmp_path / "whole", **dict(options))
    _, first = run(tmp_path / "parts", stop=stop, **dict(options))
    # another seed: all that matters must come from the checkpoint
    second_part = tmp_path / "parts" / "last.ckpt"
    parts, second = run(tmp_path / "parts", resume=second_part, seed=99, **dict(options))
    assert first.steps + second.steps == trace.steps
    assert whole["global_step"] == parts["global_step"] > 0
    assert_same(without_paths(whole), without_paths(parts))
    assert best_score(whole) == best_score(parts)


def test_resumed_differs_without_the_random_states(tmp_path: Path) -> None:
    """The comparison above can fail."""
    _, trace = run(tmp_path / "whole")
    run(tmp_path / "parts", stop=1, rng_state=False)
    _, second = run(tmp_path / "parts", resume=tmp_path / "parts" / "last.ckpt", rng_state=False)
    assert second.steps != trace.steps[len(trace.steps) // 3 :]


def test_longer_training_follows_the_new_schedule(tmp_path: Path) -> None:
    """Not the old one, whose rate is 0 by then."""
    run(tmp_path, max_epochs=2)
    _, trace = run(tmp_path, max_epochs=4, resume=tmp_path / "last.ckpt")
    _, fresh = run(tmp_path / "fresh", max_epochs=4)
    steps = len(fresh.steps) // 2
    assert len(trace.steps) == steps
    assert [rates for _, _, rates, _ in trace.steps] == [rates for _, _, rates, _ in fresh.steps[steps:]]


OPTIMIZER = {"name": "adamw", "lr": 0.02, "weight_decay": 0.05, "kan_lr": 0.005}
CHANGED: list[dict[str, Any]] = [
    {"lr": 0.1, "weight_decay": 0.3, "betas": (0.5, 0.9), "eps": 1e-3},
    {"kan_lr": None},
    {"kan_lr": 0.01, "layer_decay": 0.5, "decay_all": True},
    {"weight_decay": 0.0},
]


class Groups(Callback):
    """Settings of each parameter's group in the first step, and its momentum before it."""

    def __init__(self) -> None:
        self.settings: dict[str, dict[str, Any]] = {}
        self.momenta: dict[str, torch.Tensor] = {}

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        (optimizer,) = trainer.optimizers
        for name, parameter in pl_module.named_parameters():
            (group,) = [g for g in optimizer.param_groups if any(p is parameter for p in g["params"])]
            keys = ("lr", "initial_lr", "lr_scale", "weight_decay", "betas", "eps")
            self.settings.setdefault(name, {key: group[key] for key in keys})
            if optimizer.state:
                self.momenta.setdefault(name, optimizer.state[parameter]["exp_avg"].clone())


@pytest.mark.parametrize("scale_min_lr", [True, False])
@pytest.mark.parametrize("changed", CHANGED)
def test_settings_of_the_optimizer_are_those_of_the_configuration(
    tmp_path: Path, changed: dict[str, Any], scale_min_lr: bool
) -> None:
    """Each parameter goes on with its own momentum, at the rate and decay that are asked for now."""
    folder, first = tmp_path / "run", {"config": {"optimizer": OPTIMIZER}}
    run(folder, stop=1, ema=False, task=first)
    saved = load_checkpoint(folder / "last.ckpt")["optimizer_states"][0]
    options = {**OPTIMIZER, **changed}
    schedule = {"name": "linear", "interval": "step", "min_lr": 1e-3, "scale_min_lr": scale_min_lr}
    task = {"optimizer": options, "scheduler": schedule, "config": {"optimizer": options}}
    seen = Groups()
    run(folder, resume=folder / "last.ckpt", ema=False, task=task, more=[seen])

    class SecondEpoch(Groups):
        def on_train_batch_start(self, trainer: pl.Trainer, *rest: Any) -> None:
            if trainer.current_epoch == 1:
                super().on_train_batch_start(trainer, *rest)

    whole = SecondEpoch()
    run(tmp_path / "whole", ema=False, task=task, more=[whole])
    assert seen.settings == whole.settings
    assert {settings["weight_decay"] for settings in seen.settings.values()} <= {0.0, options["weight_decay"]}
    sizes = sorted(float(state["exp_avg"].sum()) for state in saved["state"].values())
    assert sorted(float(momentum.sum()) for momentum in seen.momenta.values()) == sizes
    assert all(seen.momenta[name].shape == p.shape for name, p in tiny_task().named_parameters())


def test_the_schedule_counts_epochs_where_their_steps_have_changed(tmp_path: Path) -> None:
    """With twice the steps behind it that an epoch has now, it would stand at its end."""
    schedule = {"name": "linear", "warmup_epochs": 0, "interval": "step"}
    run(tmp_path, stop=1, batch_size=3, task={"scheduler": schedule})
    _, trace = run(tmp_path, resume=tmp_path / "last.ckpt", task={"scheduler": schedule})
    _, fresh = run(tmp_path / "fresh", task={"scheduler": schedule})
    rates = [rates for *_, rates, _ in trace.steps]
    assert rates == [rates for *_, rates, _ in fresh.steps][-len(rates) :]
    assert len(rates) == 2 * len(fresh.steps) // 3


def test_another_number_of_processes_is_said(tmp_path: Path) -> None:
    run(tmp_path, stop=1)
    checkpoint = load_checkpoint(tmp_path / "last.ckpt")
    checkpoint["callbacks"]["RNGState"]["ranks"] *= 2
    torch.save(checkpoint, tmp_path / "last.ckpt")
    with pytest.warns(UserWarning, match="from 2 processes, this run has 1"):
        run(tmp_path, resume=tmp_path / "last.ckpt")


def test_random_states_loaded_for_a_test_are_not_used_for_training(tmp_path: Path) -> None:
    run(tmp_path, stop=1)
    steps = []
    for tests_first in (False, True):
        pl.seed_everything(3, verbose=False)
        trace, task = Trace(), tiny_task()
        trainer = tiny_trainer(tmp_path, callbacks=[trace, RNGState()], max_epochs=1)
        weights = {name: tensor.clone() for name, tensor in task.state_dict().items()}
        if tests_first:
            trainer.test(task, datamodule=TinyData(), ckpt_path=tmp_path / "last.ckpt", verbose=False)
        task.load_state_dict(weights)
        pl.seed_everything(4, verbose=False)
        trainer.fit(task, datamodule=TinyData())
        steps.append(trace.steps)
    assert steps[0] == steps[1] != []
