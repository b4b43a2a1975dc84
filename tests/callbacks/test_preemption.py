"""Signals stop training after a step, with a checkpoint of it, and the run goes on to the same end."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from kanvision.callbacks import Preempted
from kanvision.checkpoints import load_checkpoint
from kanvision.signals import STOP_SIGNALS, Stopped

from .stepwise import NUM_STEPS, At, train
from .test_steps import same_end


def notify(number: int = signal.SIGTERM) -> None:
    signal.raise_signal(number)  # handled when it returns, however busy the machine is


class InValidation(Callback):
    """Sends a signal within the second batch of a validation."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.batches = 0

    def on_validation_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
        self.batches += trainer.current_epoch == self.epoch
        if self.batches == 2:
            notify()


def stopped(folder: Path, *more: Callback, status: int = 143, **options: Any) -> Preempted:
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    with pytest.raises(Preempted) as caught:
        train(folder, *more, **options)
    assert caught.value.code == status
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before
    return caught.value


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGTERM, 143),
        (signal.SIGUSR1, 143),
        (signal.SIGUSR2, 143),
        (signal.SIGINT, 130),
        (signal.SIGHUP, 129),
    ],
)
def test_stops_after_the_step(tmp_path: Path, number: int, status: int) -> None:
    parts = tmp_path / "parts"
    said = stopped(parts, At(13, lambda: notify(number)), status=status)
    path = parts / "step.ckpt"
    assert load_checkpoint(path)["global_step"] == 13
    assert said.name == signal.Signals(number).name
    assert said.text == f"stopped after step 13, saved in {path}; resume={parts} continues from it"
    if number != signal.SIGINT:
        return
    whole = train(tmp_path / "whole")
    second = train(parts, resume=parts / "step.ckpt", seed=99)
    assert second.steps == {i: seen for i, seen in whole.steps.items() if i >= 13}
    same_end(tmp_path / "whole", parts)


def test_stops_where_no_gradients_are_being_gathered(tmp_path: Path) -> None:
    stopped(tmp_path, At(3, notify), accumulate_grad_batches=4)
    content = load_checkpoint(tmp_path / "step.ckpt")
    progress = content["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]["processed"]
    assert (content["global_step"], progress) == (1, 4)


@pytest.mark.parametrize("ema", [True, False])
def test_stops_within_validation_and_validates_anew(tmp_path: Path, ema: bool) -> None:
    whole = train(tmp_path / "whole", ema=ema)
    parts = tmp_path / "parts"
    validation = InValidation(1)
    stopped(parts, validation, ema=ema)
    assert validation.batches == 2
    assert load_checkpoint(parts / "step.ckpt")["global_step"] == 16
    second = train(parts, resume=parts / "step.ckpt", seed=99, ema=ema)
    assert second.steps == {i: seen for i, seen in whole.steps.items() if i >= 16}
    assert second.epochs == {i: seen for i, seen in whole.epochs.items() if i >= 1}
    same_end(tmp_path / "whole", parts)


def test_stops_at_the_end_of_an_epoch_by_its_own_checkpoint(tmp_path: Path) -> None:
    stopped(tmp_path, At(8, notify), limit_val_batches=0)
    assert load_checkpoint(tmp_path / "last.ckpt")["global_step"] == 8
    assert not (tmp_path / "step.ckpt").exists()


def test_a_second_interrupt_does_not_wait_for_the_step(tmp_path: Path) -> None:
    with pytest.raises(Stopped) as caught:
        train(tmp_path, At(3, lambda: [notify(signal.SIGINT), notify(signal.SIGINT)]))
    assert not isinstance(caught.value, Preempted)
    assert caught.value.code == 130
    assert not (tmp_path / "step.ckpt").exists()


def test_a_signal_that_is_ignored_stays_so(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    try:
        train(tmp_path, At(3, lambda: notify(signal.SIGHUP)))
    finally:
        signal.signal(signal.SIGHUP, before)


def test_stops_before_the_test_when_training_is_over(tmp_path: Path) -> None:
    stopped(tmp_path, At(NUM_STEPS, notify), limit_val_batches=0)
    assert load_checkpoint(tmp_path / "last.ckpt")["global_step"] == NUM_STEPS


@pytest.mark.parametrize(
    ("number", "array", "expected"),
    [
        (signal.SIGUSR1, {}, "requeue 17"),
        (signal.SIGUSR1, {"SLURM_ARRAY_JOB_ID": "16", "SLURM_ARRAY_TASK_ID": "3"}, "requeue 16_3"),
        (signal.SIGTERM, {}, None),  # somebody cancels the job
    ],
)
def test_a_job_whose_time_is_up_is_queued_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, array: dict[str, str], expected: str | None
) -> None:
    record, program = tmp_path / "record", tmp_path / "bin" / "scontrol"
    program.parent.mkdir()
    # it looks whether the checkpoint is there: Slurm ends the job at once
    program.write_text(f'#!/bin/sh\ntest -f {tmp_path}/run/step.ckpt && echo "$@" >> {record}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    for name, value in {"SLURM_JOB_ID": "17", **array}.items():
        monkeypatch.setenv(name, value)
    stopped(tmp_path / "run", At(2, lambda: notify(number)))
    assert (record.read_text().strip() if record.exists() else None) == expected
