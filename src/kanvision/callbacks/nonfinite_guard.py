"""Callback that stops or skips optimizer steps whose loss or gradient is not finite."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, distributed
from torch.optim import Optimizer

from kanvision.spec.data import FAULT_POLICIES, FaultPolicy
from kanvision.tasks import NonFiniteError

__all__ = ["NonFiniteGuard"]

MAX_OVERFLOWS = 50
"""Number of steps in a row that a gradient scaler may skip; each halves its scale, which starts at 2**16."""


class NonFiniteGuard(Callback):
    """Checks loss and gradient before each optimizer step, since one NaN makes all weights NaN.

    All ranks decide alike, by the losses of all ranks and the reduced gradient. If a value is not finite,
    each rank writes a file `epoch<e>_step<s>_rank<r>.json` with the loss, the indices of the images since the
    last step (those of `batch["index"]`), the parameters with such a gradient, and the run's configuration.
    Then, by mode:

    * raise: training ends before the step, so that weights and checkpoints are unchanged;
    * skip: the step is skipped. Weights, momenta and running statistics stay as they were before the batch,
      the schedule continues, and the mean loss of the epoch is NaN. Logged as `train/skipped_steps`.

    A gradient scaler (precision=16-mixed) raises its scale until gradients overflow. A gradient that is not
    finite while the loss is finite is therefore left to the scaler, up to `MAX_OVERFLOWS` times in a row.

    The check costs a pass over the gradients and one synchronization with the device per step.

    Args:
        dirpath: Folder of the files.
        mode: Name of the mode, raise or skip.
        max_skipped: Number of steps of an epoch that may be skipped; one more is an error.

    Raises:
        ValueError: If an argument is not legal.
    """

    def __init__(self, dirpath: str | Path, mode: FaultPolicy = "raise", max_skipped: int = 10) -> None:
        if mode not in FAULT_POLICIES:
            raise ValueError(
                f"callbacks.nonfinite_guard.mode={mode} is unknown; legal: {', '.join(FAULT_POLICIES)}"
            )
        if max_skipped < 0:
            raise ValueError(f"callbacks.nonfinite_guard.max_skipped={max_skipped} must not be negative")
        self.dirpath = Path(dirpath)
        self.mode = mode
        self.max_skipped = max_skipped
        self.skipped = 0
        """Number of steps skipped in this epoch."""
        self.overflows = 0
        """Number of steps in a row that the gradient scaler has skipped."""
        self._images: list[Any] = []
        self._losses: list[Tensor] = []
        self._buffers: dict[str, Tensor] = {}

    def state_dict(self) -> dict[str, int]:
        """Return the counts."""
        return {"skipped": self.skipped, "overflows": self.overflows}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Restore the counts."""
        self.skipped, self.overflows = state_dict["skipped"], state_dict["overflows"]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reset the count of skipped steps."""
        self.skipped = 0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep the indices of the images, and the buffers that a skipped step must not change."""
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._images, self._losses = [], []
            if self.mode == "skip":
                self._buffers = {name: buffer.clone() for name, buffer in pl_module.named_buffers()}
        if isinstance(batch, Mapping):
            self._images.append(batch.get("index"))

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Keep the loss, which is checked together with the gradient."""
        self._losses.append(loss.detach())

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Check loss and gradient.

        Raises:
            NonFiniteError: If a value is not finite, and the mode is raise or too many steps were skipped.
        """
        gradients = [
            p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None
        ]
        is_finite = torch.stack(self._losses).isfinite().all(), _gradient_norm(gradients).isfinite()
        flags = torch.stack(is_finite).float()
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(flags, distributed.ReduceOp.MIN)
        loss_is_finite, gradient_is_finite = (bool(flag) for flag in flags.tolist())
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        overflows = scaled and loss_is_finite and not gradient_is_finite
        self.overflows = self.overflows + 1 if overflows else 0
        if (loss_is_finite and gradient_is_finite) or (overflows and self.overflows <= MAX_OVERFLOWS):
            return
        quantity = "the gradient" if loss_is_finite else "the loss"
        path = self._write_report(trainer, pl_module, quantity)
        if self.mode == "skip" and not overflows and self.skipped < self.max_skipped:
            self._skip_step(pl_module, optimizer)
            rank_zero_warn(f"Step {trainer.global_step} is skipped, {quantity} is not finite: {path}")
            return
        raise NonFiniteError(self._error_message(trainer, quantity, path, overflows))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the number of skipped steps."""
        if self.mode == "skip":
            pl_module.log("train/skipped_steps", float(self.skipped), rank_zero_only=True)

    def _skip_step(self, pl_module: pl.LightningModule, optimizer: Optimizer) -> None:
        self.skipped += 1
        # optimizers ignore parameters without a gradient: no decay, no momentum
        optimizer.zero_grad(set_to_none=True)
        for name, before in self._buffers.items():
            pl_module.get_buffer(name).copy_(before)

    def _write_report(self, trainer: pl.Trainer, pl_module: pl.LightningModule, quantity: str) -> Path:
        parameters = [
            name
            for name, parameter in pl_module.named_parameters()
            if parameter.grad is not None and not bool(parameter.grad.isfinite().all())
        ]
        report = {
            "not_finite": quantity,
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "rank": trainer.global_rank,
            "losses": [float(loss) for loss in self._losses],
            "images": [None if images is None else images.tolist() for images in self._images],
            "parameters": parameters,
            "config": getattr(pl_module, "config", None),
        }
        name = f"epoch{trainer.current_epoch}_step{trainer.global_step}_rank{trainer.global_rank}.json"
        self.dirpath.mkdir(parents=True, exist_ok=True)
        path = self.dirpath / name
        path.write_text(json.dumps(report, indent=1), encoding="utf-8")
        return path

    def _error_message(self, trainer: pl.Trainer, quantity: str, path: Path, overflows: bool) -> str:
        fault = f"{quantity} is not finite at step {trainer.global_step}, epoch {trainer.current_epoch}"
        if overflows:
            fault += f", at any scale: the gradient scaler has skipped {self.overflows} steps in a row"
        elif self.mode == "skip":
            fault += (
                f", and callbacks.nonfinite_guard.max_skipped={self.max_skipped} steps were skipped already"
            )
        return (
            f"{fault}; the weights are unchanged. The images and parameters are listed in {path}. Try a "
            "lower optimizer.lr, trainer.gradient_clip_val=1, callbacks.nonfinite_guard.mode=skip; "
            "debug=nan finds the operation"
        )


def _gradient_norm(gradients: Sequence[Tensor]) -> Tensor:
    """Return the norm of all gradients: finite only if all are, and fast on CPUs."""
    exact = [gradient.float() if gradient.dtype == torch.float16 else gradient for gradient in gradients]
    norm = torch.nn.utils.get_total_norm(exact)
    whole: Tensor = norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # sharded parameters
    return whole
