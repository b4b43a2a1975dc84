"""What an unfinished epoch has gathered, in checkpoints: a resumed epoch ends as the uninterrupted one."""

from __future__ import annotations

import hashlib
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping
from torch import Tensor, nn

from .csv_log import CSVLog
from .distributed import all_gather_object
from .ema import EMAWeights

__all__ = ["EpochState", "resumes_within_epoch"]

REDUCTIONS = ("mean", "sum", "max", "min")
SETTINGS = ("fx", "name", "prog_bar", "logger", "on_step", "on_epoch", "enable_graph", "add_dataloader_idx")


def resumes_within_epoch(trainer: pl.Trainer) -> bool:
    """Whether training, at `on_train_start`, goes on within an epoch, whose start is not called again."""
    return bool(trainer.fit_loop.restarted_mid_epoch)


class EpochState(Callback):
    """Saves what every process has gathered within an epoch and what Lightning forgets.

    * Sums behind the means of the epoch that are logged (`train/loss`), and the numbers last shown.
    * Buffers in which processes differ, as running statistics of batch norm do until they are averaged before
      validation: of the network and of the average of its weights. Checkpoints hold those of process 0.

    A csv log forgets rows of steps that come again. All states are tensors and primitives.
    """

    def __init__(self) -> None:
        self._trainer: pl.Trainer | None = None
        self._restored: list[dict[str, Any]] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Forget what an earlier run of the same trainer has loaded."""
        self._trainer, self._restored = trainer, []

    def state_dict(self) -> dict[str, Any]:
        """States of all processes, in the order of their ranks; none at an epoch's end. A collective call."""
        assert self._trainer is not None
        epochs: Any = self._trainer.fit_loop.epoch_progress.current
        if epochs.processed == epochs.ready:
            return {"ranks": []}
        connector = self._trainer._logger_connector
        state = {
            "sums": _sums(self._trainer.fit_loop.epoch_loop._results),
            "callback_metrics": {name: value.cpu() for name, value in connector._callback_metrics.items()},
            "progress_bar_metrics": dict(connector._progress_bar_metrics),
            "buffers": _own_buffers(self._trainer),
        }
        return {"ranks": all_gather_object(state)}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the patience of the configuration, which early stopping replaces by the saved one."""
        states = checkpoint.get("callbacks", {})
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, EarlyStopping) and callback.state_key in states:
                states[callback.state_key]["patience"] = callback.patience

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the states until the loop is about to start."""
        self._restored = state_dict["ranks"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the state of this process."""
        states, self._restored = self._restored, []
        _leave_finished_epoch(trainer)
        if trainer.ckpt_path is not None:
            for logger in trainer.loggers:
                if isinstance(logger, CSVLog):
                    # Lightning counts the step of a checkpoint within an epoch only when the epoch goes on
                    done = trainer.fit_loop.epoch_loop._batches_that_stepped
                    logger.forget_from(done + resumes_within_epoch(trainer))
        if len(states) != trainer.world_size or not resumes_within_epoch(trainer):
            return
        state = states[trainer.global_rank]
        connector = trainer._logger_connector
        for settings in state["sums"]:
            _restore_sum(trainer, pl_module.device, **settings)
        connector._callback_metrics.update(state["callback_metrics"])
        connector._progress_bar_metrics.update(state["progress_bar_metrics"])
        # The epoch's first batch, at which sums start from nothing, is over.
        connector._first_loop_iter = True
        modules = _modules(trainer)
        for (owner, name), value in state["buffers"].items():
            modules[owner].get_buffer(name).copy_(value)


def _leave_finished_epoch(trainer: pl.Trainer) -> None:
    """Begin with the epoch after that of the checkpoint.

    With trainer.max_steps, Lightning takes every checkpoint for one from within an epoch: it would end an
    epoch that is over once more, and count it as another one.
    """
    loop = trainer.fit_loop
    if loop.restarted_on_epoch_end:
        for part in (loop, loop.epoch_loop, loop.epoch_loop.val_loop, loop.epoch_loop.automatic_optimization):
            part._restarting = False
            part.reset_restart_stage()
        for progress in (loop.epoch_progress.total, loop.epoch_progress.current):
            progress.completed = progress.processed  # type: ignore[attr-defined]


def _sums(results: Any) -> list[dict[str, Any]]:
    """Everything logged in this epoch for its end, as primitives and tensors."""
    return [
        {
            **{name: getattr(item.meta, name) for name in SETTINGS},
            "reduction": next(name for name in REDUCTIONS if item.meta.reduce_fx is getattr(torch, name)),
            "sync_dist": item.meta.sync.should,
            "rank_zero_only": item.meta.sync.rank_zero_only,
            "value": item.value.cpu(),
            "count": item.cumulated_batch_size.cpu() if item.meta.is_mean_reduction else None,
        }
        for item in results.values()
        if item.is_tensor and item.meta.on_epoch and not item.has_reset
    ]


def _restore_sum(
    trainer: pl.Trainer,
    device: torch.device,
    *,
    value: Tensor,
    count: Tensor | None,
    reduction: str,
    **settings: Any,
) -> None:
    results = trainer.fit_loop.epoch_loop._results
    results.log(
        value=value.to(device),
        reduce_fx=getattr(torch, reduction),
        sync_dist_fn=trainer.strategy.reduce,
        batch_size=1,
        **settings,
    )
    item = results[f"{settings['fx']}.{settings['name']}"]
    item.value = value.to(device)
    if count is not None:
        item.cumulated_batch_size = count.to(device)


def _modules(trainer: pl.Trainer) -> dict[str, nn.Module]:
    """What has buffers: the task, and the task with the average of the weights."""
    found: dict[str, nn.Module] = {"task": trainer.lightning_module}
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, EMAWeights) and callback.averaged is not None:
            found["average"] = callback.averaged
    return found


def _own_buffers(trainer: pl.Trainer) -> dict[tuple[str, str], Tensor]:
    """The buffers in which this process differs from process 0; a collective call."""
    if trainer.world_size == 1:
        return {}
    buffers = {
        (owner, name): buffer.detach().cpu()
        for owner, module in _modules(trainer).items()
        for name, buffer in module.named_buffers()
    }
    digests = {key: _digest(buffer) for key, buffer in buffers.items()}
    firsts = all_gather_object(digests)[0]
    return {key: buffer for key, buffer in buffers.items() if firsts[key] != digests[key]}


def _digest(tensor: Tensor) -> bytes:
    data = tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    return hashlib.blake2b(data, digest_size=16).digest()
