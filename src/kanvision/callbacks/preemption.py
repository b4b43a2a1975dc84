"""Stopping when the machine is taken away: save, say so by the exit status, and be ready to go on."""

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

TIME_IS_UP = ("SIGUSR1", "SIGUSR2")


class Preempted(Stopped):
    """The run was told to stop and has stopped; what is to be done next time is on the disk."""


class Preemption(Checkpoint):
    """Stops training after a signal (`kanvision.signals.STOP_SIGNALS`), and saves after the step.

    A signal to any process stops all of them after the same step; several processes need one step more, in
    which they tell each other (`Agreement`). Within validation and test they stop after a batch of it, and
    begin it anew when the run goes on. A second Ctrl-C does not wait for the step. It stands last among the
    callbacks: what it saves has seen all others.

    In a job of Slurm, SIGUSR1 and SIGUSR2 mean that the time is up, and the job is put into the queue again
    (`sbatch --signal=USR1@120`; submitit sends SIGUSR2); with resume=auto its command goes on with the run.
    SIGTERM may mean that somebody cancels it, so it does not: what Slurm itself preempts, it requeues itself.

    Lightning's own answer to SIGTERM ends with status 0 and saves nothing, and with several processes begins
    a collective call within the handler; that to Slurm's signal saves there, and submitit's gives the job
    back without saving. They are replaced.

    Args:
        requeue: Put a job of Slurm into the queue again when its time is up.
    """

    def __init__(self, requeue: bool = True) -> None:
        self.requeue = requeue
        self._agreement = AsyncAllReduce()
        self._received = 0
        self._agreed = 0
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen from now on, instead of Lightning."""
        self._listen(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop between two epochs; the last one has been saved."""
        self._stop_if_agreed(trainer)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Stop between two steps, after the first of them was saved and logged."""
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._stop_if_agreed(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Ask whether to stop, and save."""
        self._ask()
        if self._agreed and is_between_steps(trainer, batch_idx):
            self._save(trainer)

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Ask whether to stop, and stop; `on_exception` saves, when the network is in its place again."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._ask()
            self._stop_if_agreed(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop before the test."""
        self._ask()
        self._ask()  # several processes answer the second time
        self._stop_if_agreed(trainer)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen from now on, instead of Lightning."""
        self._listen(trainer)

    def on_test_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Ask whether to stop, and stop."""
        self._ask()
        self._stop_if_agreed(trainer)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop before the results are written."""
        self._ask()
        self._ask()  # several processes answer the second time
        self._stop_if_agreed(trainer)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Save where validation was cut off, say how to go on, and put the job into the queue."""
        self._restore_handlers()
        if not isinstance(exception, Preempted):
            return
        self._received = 0
        if trainer.validating:
            # as if its first batch had been cut off: Lightning then validates again, and all of it
            progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
            progress.reset()
            progress.increment_ready()
            progress.increment_started()
            self._save(trainer)
        if not trainer.testing:
            exception.text = _how_to_go_on(trainer)
        if trainer.is_global_zero and self.requeue and exception.name in TIME_IS_UP:
            _requeue()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Listen no more; a signal that came too late for this is left to those who listened before."""
        self._restore_handlers()
        if self._received:
            number, self._received = STOP_SIGNALS[self._received - 1], 0
            signal.raise_signal(number)

    def _listen(self, trainer: pl.Trainer) -> None:
        self._received, self._agreed = int(trainer.received_sigterm), 0
        trainer._signal_connector.received_sigterm = False
        if threading.current_thread() is threading.main_thread():
            before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
            self._handlers = {
                number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)
            }
            for number in self._handlers:
                signal.signal(number, self._remember)

    def _remember(self, number: int, frame: Any) -> None:
        leave_lost_terminal()
        if number == signal.SIGINT:
            if self._received:
                raise Stopped(number)
            os.write(2, b"\nSIGINT: stops after this step, and saves; Ctrl-C again stops at once\n")
        # where there are several, the later one in the list counts
        self._received = max(self._received, STOP_SIGNALS.index(signal.Signals(number)) + 1)

    def _restore_handlers(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _ask(self) -> None:
        self._agreed = max(self._agreed, self._agreement.largest(self._received))

    def _save(self, trainer: pl.Trainer) -> None:
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, StepCheckpoint):
                callback.save(trainer)

    def _stop_if_agreed(self, trainer: pl.Trainer) -> None:
        if self._agreed:
            raise Preempted(STOP_SIGNALS[self._agreed - 1], _exit_status(trainer))


def _how_to_go_on(trainer: pl.Trainer) -> str:
    """What becomes of the run: its checkpoint of this very step, or the lack of one."""
    step = trainer.global_step
    checkpoints = [c for c in trainer.checkpoint_callbacks if isinstance(c, StepCheckpoint | LastCheckpoint)]
    paths = [c.path for c in checkpoints if c._last_global_step_saved == step and c.path.is_file()]
    if not paths:
        return f"stopped after step {step}, which no checkpoint holds: callbacks.step is off"
    folder = paths[0].parent
    run = folder.parent if folder.name == "checkpoints" else folder
    return f"stopped after step {step}, saved in {paths[0]}; {shlex.quote(f'resume={run}')} goes on with it"


def _exit_status(trainer: pl.Trainer) -> int | None:
    """0 for processes that Lightning has started: it kills the first one where another one fails."""
    environment = getattr(trainer.strategy, "cluster_environment", None)
    return 0 if isinstance(environment, LightningEnvironment) and trainer.local_rank > 0 else None


def _requeue() -> None:
    """Put this job of Slurm into the queue again; elsewhere nothing."""
    variables = os.environ
    if "SLURM_JOB_ID" not in variables:
        return
    job = variables["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in variables:
        job = f"{variables['SLURM_ARRAY_JOB_ID']}_{variables['SLURM_ARRAY_TASK_ID']}"
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        rank_zero_warn(f"The job could not be put into the queue again ({error}); do it by hand")
