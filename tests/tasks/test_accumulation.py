"""Batches of an optimizer step that change between epochs: steps, rates and resumption."""

from pathlib import Path

import pytest
from pytorch_lightning.callbacks import Callback, GradientAccumulationScheduler

from kanvision.optim import build_optimizer, build_scheduler
from tests.callbacks.stepwise import NUM_STEPS, At, CrashError, crash, train

from .tiny_problem import TinyNet

BATCHES = NUM_STEPS // 3  # an epoch
SCHEDULE = {"name": "cosine", "warmup_epochs": 1, "warmup_lr": 1e-4, "interval": "step"}


class Steps(Callback):
    """Optimizer steps done after each batch."""

    def __init__(self) -> None:
        self.done: list[int] = []

    def on_train_batch_end(self, trainer, *_) -> None:
        self.done.append(trainer.global_step)


def test_a_schedule_ends_where_training_ends(tmp_path: Path) -> None:
    """It has the same rate at a third of an epoch whatever the number of steps in it."""
    steps = Steps()
    trace = train(tmp_path, GradientAccumulationScheduler({0: 1, 1: 4, 2: 2}), steps)
    assert steps.done == [
        *range(1, 9),
        *(8,) * 3,
        *(9,) * 4,
        *(10,) * 2,
        *(11,) * 2,
        *(12,) * 2,
        *(13,) * 2,
        14,
    ]
    optimizer = build_optimizer(TinyNet(), lr=0.02, weight_decay=0.05, kan_lr=0.005)
    schedule = build_scheduler(optimizer, max_epochs=3, steps_per_epoch=BATCHES, **SCHEDULE)
    for batch in range(NUM_STEPS):
        together = (1, 4, 2)[batch // BATCHES]
        schedule.step_update((batch + 1) // together * together)
        wanted = [group["lr"] for group in optimizer.param_groups]
        assert trace.steps[batch][2] == pytest.approx(wanted), batch


def test_resumption_within_an_epoch(tmp_path: Path) -> None:
    def schedule() -> GradientAccumulationScheduler:
        return GradientAccumulationScheduler({0: 1, 1: 2})

    whole = train(tmp_path / "whole", schedule())
    with pytest.raises(CrashError):
        train(tmp_path / "parts", schedule(), At(14, crash), every_n_steps=2)
    rest = train(tmp_path / "parts", schedule(), resume=tmp_path / "parts" / "step.ckpt", seed=9)
    assert min(rest.steps) % BATCHES > 0
    assert rest.steps == {step: seen for step, seen in whole.steps.items() if step >= min(rest.steps)}
