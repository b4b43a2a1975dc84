"""Callback that saves and stops a run after a signal, so that it can be resumed."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import threading
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_warn

from kanvision.signals import STOP_SIGNALS, Stopped, leave_lost_terminal

from .checkpointing import LastCheckpoint, StepCheckpoint, is_between_steps
from .distributed import AsyncAllReduce

__all__ = ["Preempted", "Preemption"]

TIME_LIMIT_SIGNALS = ("SIGUSR1", "SIGUSR2")


class Preempted(Stopped):
    """The exit of a run that was stopped by a signal after its state was saved."""


class Preemption(Checkpoint):
    """Stops training after a signal (`kanvision.signals.STOP_SIGNALS`), and saves after the step.

    A signal to any rank stops all ranks after the same step; several ranks need one step more to exchange the
    signal (`AsyncAllReduce`). Validation and test stop after a batch, and are repeated when the run is
    resumed. A second Ctrl-C stops without waiting for the step. The callback must be the last one, so that
    the saved state includes the changes of all others.

    In a Slurm job, SIGUSR1 and SIGUSR2 mean that the time limit is near, and the job is requeued
    (`sbatch --signal=USR1@120`; submitit sends SIGUSR2). With resume=auto its command resumes the run. After
    SIGTERM the job is not requeued, since it may have been canceled; Slurm itself requeues jobs that it
    preempts.

    Signal handlers of Lightning and submitit are replaced. Lightning's handler of SIGTERM ends with status 0
    without saving, and with several ranks begins a collective call within the handler; its handler of Slurm's
    signal saves within the handler; submitit's requeues the job without saving.

    Args:
        requeue: Requeue a Slurm job at its time limit.
    """

    def __init__(self, requeue: bool = True) -> None:
        self.requeue = requeue
        self._all_reduce = AsyncAllReduce()
        self._received = 0
        self._agreed = 0
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Install the signal handlers."""
        self._install_handlers(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop between two epochs, after the checkpoint of the first one was written."""
        self._stop_if_agreed(trainer)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Stop between two steps, after the first one was saved and logged."""
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._stop_if_agreed(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Exchange signals between the ranks, and save if there is one."""
        self._exchange()
        if self._agreed and is_between_steps(trainer, batch_idx):
            self._save(trainer)

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, *_: Any, **__: Any
    ) -> None:
        """Stop after a signal; `on_exception` saves, once the trained weights are restored."""
        fits = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if fits or trainer.testing:
            self._exchange()
            self._stop_if_agreed(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop before the test, or before the results of a test are written."""
        self._exchange()
        self._exchange()  # with several ranks, the second result is that of the first call
        self._stop_if_agreed(trainer)

    on_test_start = on_train_start
    on_test_batch_start = on_validation_batch_start
    on_test_end = on_train_end

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Save a run stopped within validation, add advice on how to resume, and requeue the job."""
        self._restore_handlers()
        if not isinstance(exception, Preempted):
            return
        self._received = 0
        if trainer.validating:
            # as if stopped in its first batch: Lightning then repeats the whole validation
            progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
            progress.reset()
            progress.increment_ready()
            progress.increment_started()
            self._save(trainer)
        if not trainer.testing:
            exception.text = _resume_advice(trainer)
        if trainer.is_global_zero and self.requeue and exception.name in TIME_LIMIT_SIGNALS:
            _requeue_job()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Restore the previous signal handlers, which get a signal that came too late for this callback."""
        self._restore_handlers()
        if self._received:
            number, self._received = STOP_SIGNALS[self._received - 1], 0
            signal.raise_signal(number)

    def _install_handlers(self, trainer: pl.Trainer) -> None:
        self._received, self._agreed = int(trainer.received_sigterm), 0
        trainer._signal_connector.received_sigterm = False
        if threading.current_thread() is threading.main_thread():
            before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
            self._handlers = {
                number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)
            }
            for number in self._handlers:
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: Any) -> None:
        leave_lost_terminal()
        if number == signal.SIGINT:
            if self._received:
                raise Stopped(number)
            os.write(2, b"\nSIGINT: saves and stops after this step; Ctrl-C again stops at once\n")
        # of several signals, the last one in the list counts
        self._received = max(self._received, STOP_SIGNALS.index(signal.Signals(number)) + 1)

    def _restore_handlers(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _exchange(self) -> None:
        self._agreed = max(self._agreed, self._all_reduce.max(self._received))

    def _save(self, trainer: pl.Trainer) -> None:
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, StepCheckpoint):
                callback.save(trainer)

    def _stop_if_agreed(self, trainer: pl.Trainer) -> None:
        if self._agreed:
            raise Preempted(STOP_SIGNALS[self._agreed - 1], _exit_status(trainer))


def _resume_advice(trainer: pl.Trainer) -> str:
    """Return how the run can be resumed from its checkpoint of this step, if there is one."""
    step = trainer.global_step
    checkpoints = [c for c in trainer.checkpoint_callbacks if isinstance(c, StepCheckpoint | LastCheckpoint)]
    paths = [c.path for c in checkpoints if c._last_global_step_saved == step and c.path.is_file()]
    if not paths:
        return f"stopped after step {step}, which no checkpoint holds: callbacks.step is off"
    folder = paths[0].parent
    run = folder.parent if folder.name == "checkpoints" else folder
    return f"stopped after step {step}, saved in {paths[0]}; {shlex.quote(f'resume={run}')} continues from it"


def _exit_status(trainer: pl.Trainer) -> int | None:
    """Return 0 for processes that Lightning has launched: if one of them fails, it kills rank 0."""
    environment = getattr(trainer.strategy, "cluster_environment", None)
    return 0 if isinstance(environment, LightningEnvironment) and trainer.local_rank > 0 else None


def _requeue_job() -> None:
    """Requeue this Slurm job; without Slurm, do nothing."""
    variables = os.environ
    if "SLURM_JOB_ID" not in variables:
        return
    job = variables["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in variables:
        job = f"{variables['SLURM_ARRAY_JOB_ID']}_{variables['SLURM_ARRAY_TASK_ID']}"
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        rank_zero_warn(f"The job could not be requeued ({error}); requeue it by hand")
