"""State of an unfinished epoch in checkpoints, with which a resumed epoch equals the uninterrupted one."""

from __future__ import annotations

import hashlib
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping
from torch import Tensor, nn

from .averaged_weights import list_averages
from .csv_log import CSVLog
from .distributed import all_gather_object

__all__ = ["EpochState", "is_resumed_within_epoch"]

REDUCTIONS = ("mean", "sum", "max", "min")
SETTINGS = ("fx", "name", "prog_bar", "logger", "on_step", "on_epoch", "enable_graph", "add_dataloader_idx")


def is_resumed_within_epoch(trainer: pl.Trainer) -> bool:
    """Return True if training resumes within an epoch, whose `on_train_epoch_start` is not called again.

    Valid from `on_train_start` on.
    """
    return bool(trainer.fit_loop.restarted_mid_epoch)


class EpochState(Callback):
    """Saves the state of every rank within an epoch that Lightning does not save.

    * Sums of the logged means of the epoch (`train/loss`), and the latest displayed values.
    * Buffers that differ between ranks, as running statistics of batch norm do until they are averaged before
      validation, of the model and of the average of its weights. Checkpoints hold those of rank 0 alone.

    Rows of the csv log that a resumed run writes again are deleted. All states are tensors and primitives.
    """

    def __init__(self) -> None:
        self._trainer: pl.Trainer | None = None
        self._restored: list[dict[str, Any]] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Drop the state that an earlier run of the same trainer has loaded."""
        self._trainer, self._restored = trainer, []

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all ranks, in their order; none at an epoch's end. A collective call."""
        assert self._trainer is not None
        epochs: Any = self._trainer.fit_loop.epoch_progress.current
        if epochs.processed == epochs.ready:
            return {"ranks": []}
        connector = self._trainer._logger_connector
        state = {
            "sums": _collect_sums(self._trainer.fit_loop.epoch_loop._results),
            "callback_metrics": {name: value.cpu() for name, value in connector._callback_metrics.items()},
            "progress_bar_metrics": dict(connector._progress_bar_metrics),
            "buffers": _collect_buffers(self._trainer),
        }
        return {"ranks": all_gather_object(state)}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Replace the saved patience of early stopping by that of the configuration."""
        states = checkpoint.get("callbacks", {})
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, EarlyStopping) and callback.state_key in states:
                states[callback.state_key]["patience"] = callback.patience

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the states until the loop is about to start."""
        self._restored = state_dict["ranks"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the state of this rank."""
        states, self._restored = self._restored, []
        _leave_finished_epoch(trainer)
        if trainer.ckpt_path is not None:
            for logger in trainer.loggers:
                if isinstance(logger, CSVLog):
                    # Lightning counts the step of a checkpoint within an epoch only once the epoch continues
                    num_steps = trainer.fit_loop.epoch_loop._batches_that_stepped
                    logger.drop_rows(num_steps + is_resumed_within_epoch(trainer))
        if len(states) != trainer.world_size or not is_resumed_within_epoch(trainer):
            return
        state = states[trainer.global_rank]
        connector = trainer._logger_connector
        for settings in state["sums"]:
            _restore_sum(trainer, pl_module.device, **settings)
        connector._callback_metrics.update(state["callback_metrics"])
        connector._progress_bar_metrics.update(state["progress_bar_metrics"])
        # past the epoch's first batch, at which Lightning resets sums
        connector._first_loop_iter = True
        modules = _modules_with_buffers(trainer)
        for (kind, name), value in state["buffers"].items():
            modules[kind].get_buffer(name).copy_(value)


def _leave_finished_epoch(trainer: pl.Trainer) -> None:
    """Continue with the epoch after that of a checkpoint of an epoch's end.

    With trainer.max_steps, Lightning treats every checkpoint as one from within an epoch: it would end the
    finished epoch again, and count it twice.
    """
    loop = trainer.fit_loop
    if loop.restarted_on_epoch_end:
        for part in (loop, loop.epoch_loop, loop.epoch_loop.val_loop, loop.epoch_loop.automatic_optimization):
            part._restarting = False
            part.reset_restart_stage()
        for progress in (loop.epoch_progress.total, loop.epoch_progress.current):
            progress.completed = progress.processed  # type: ignore[attr-defined]


def _collect_sums(results: Any) -> list[dict[str, Any]]:
    """Return the sums of all values logged by epoch, as primitives and tensors."""
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


def _modules_with_buffers(trainer: pl.Trainer) -> dict[str, nn.Module]:
    """Return the task, and the task with the average of the weights if there is one."""
    return dict(zip(("task", "average"), [trainer.lightning_module, *list_averages(trainer)], strict=False))


def _collect_buffers(trainer: pl.Trainer) -> dict[tuple[str, str], Tensor]:
    """Return the buffers of this rank that differ from those of rank 0; a collective call."""
    if trainer.world_size == 1:
        return {}
    buffers = {
        (kind, name): buffer.detach().cpu()
        for kind, module in _modules_with_buffers(trainer).items()
        for name, buffer in module.named_buffers()
    }
    digests = {key: _hash_tensor(buffer) for key, buffer in buffers.items()}
    rank_zero = all_gather_object(digests)[0]
    return {key: buffer for key, buffer in buffers.items() if rank_zero[key] != digests[key]}


def _hash_tensor(tensor: Tensor) -> bytes:
    data = tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    return hashlib.blake2b(data, digest_size=16).digest()
