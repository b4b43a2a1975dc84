"""Batches and learning rates of a run, and the line that tells them."""

from pathlib import Path

import pytest

from kanvision.app.effective_batch import EffectiveBatch, clamp_warmup, split_global_batch
from kanvision.config import ConfigError, compose, parse_train

pytestmark = pytest.mark.usefixtures("own_folder")

CONF = Path(__file__).resolve().parents[2] / "conf"
BASE = ("run.dir=here", "trainer.max_epochs=20", "optimizer.lr=0.001", "recipe.batch_size=64")


def effort(num_processes: int, *words: str) -> EffectiveBatch:
    return EffectiveBatch.from_config(
        split_global_batch(parse_train(compose("train", [*BASE, *words], CONF)), num_processes), num_processes
    )


@pytest.mark.parametrize(
    ("num_processes", "words", "line"),
    [
        (1, "", "effective batch 64, learning rate 0.001"),
        (
            8,
            "trainer.global_batch_size=64",
            "effective batch 64 = 8 images x 8 processes, learning rate 0.001",
        ),
        (
            8,
            "data.batch_size=64",
            "effective batch 512 = 64 images x 8 processes, learning rate 0.001 (the recipe's batch is 64)",
        ),
        (8, "", "effective batch 64 = 8 images x 8 processes, learning rate 0.001"),
        (
            1,
            "recipe.micro_batch_size=24",
            "effective batch 64 = 16 images x 1 process x 4 batches a step, learning rate 0.001",
        ),
        (
            2,
            "trainer.accumulate_grad_batches=4",
            "effective batch 64 = 8 images x 2 processes x 4 batches a step, learning rate 0.001",
        ),
        (
            3,
            "",
            "effective batch 63 = 21 images x 3 processes, learning rate 0.001 (the recipe's batch is 64)",
        ),
        (
            3,
            "mixup.mixup_alpha=0.2",
            "effective batch 66 = 22 images x 3 processes, learning rate 0.001 (the recipe's batch is 64)",
        ),
        (
            100,
            "",
            "effective batch 100 = 1 images x 100 processes, learning rate 0.001 (the recipe's batch is 64)",
        ),
        (
            2,
            "data.batch_size=16 trainer.global_batch_size=128",
            "effective batch 128 = 16 images x 2 processes x 4 batches a step, learning rate 0.001 "
            "(the recipe's batch is 64)",
        ),
        (
            4,
            "trainer.global_batch_size=256 optimizer.lr_scaling=linear trainer.accumulate_grad_batches=2",
            "effective batch 256 = 32 images x 4 processes x 2 batches a step, learning rate "
            "0.004 = 0.001 x 256 / 64 (the recipe's batch is 64)",
        ),
        (
            1,
            "data.batch_size=16 optimizer.lr_scaling=sqrt optimizer.kan_lr=0.01",
            "effective batch 16, learning rate 0.0005 = 0.001 x sqrt(16 / 64), of KAN parameters 0.005 "
            "(the recipe's batch is 64)",
        ),
    ],
)
def test_the_line_says_how_it_came_about(num_processes: int, words: str, line: str) -> None:
    assert str(effort(num_processes, *words.split())) == f"20 epochs, {line}"


def test_devices_that_turn_out_too_many_are_refused() -> None:
    with pytest.raises(
        ConfigError, match="64 images cannot be divided equally: 3 processes with 1 batch each"
    ):
        effort(3, "trainer=ddp", "trainer.global_batch_size=64")


@pytest.mark.parametrize(
    ("words", "epochs", "line"),
    [
        (
            "trainer.max_epochs=1",
            0.5,
            "0.5 of 1 epochs; scheduler.warmup_epochs=2 is not shorter than the run",
        ),
        ("trainer.max_epochs=2", 1, "1 of 2 epochs; scheduler.warmup_epochs=2 is not shorter than the run"),
        ("trainer.max_epochs=1 scheduler.interval=epoch", 0, "0 of 1 epochs; "),
        ("trainer.max_epochs=3 scheduler.interval=epoch scheduler.warmup_epochs=9", 1, "1 of 3 epochs; "),
        ("trainer.max_epochs=3", 2, ""),
        ("trainer.max_epochs=1 scheduler.warmup_epochs=0", 0, ""),
    ],
)
def test_a_warmup_is_shorter_than_the_run(words: str, epochs: float, line: str) -> None:
    config = parse_train(compose("train", ["run.dir=here", *words.split()], CONF))
    clamped, told = clamp_warmup(config)
    assert clamped.scheduler == config.scheduler.model_copy(update={"warmup_epochs": epochs})
    assert told.startswith(line)
    assert bool(told) == bool(line)
