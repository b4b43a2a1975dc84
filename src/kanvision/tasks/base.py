"""Base class of tasks: runs, optimizes, measures and saves a model."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from timm.scheduler.scheduler import Scheduler
from timm.utils import distribute_bn, random_seed
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection

from kanvision.layers import KANPenalty, collect_auxiliary, restore_structure, structure_changes
from kanvision.metrics import NonFiniteImages
from kanvision.optim import (
    Plateau,
    apply_settings,
    build_optimizer,
    build_scheduler,
    group_settings,
    regroup_state,
)

from .accumulation import batches_per_step, steps_per_epoch
from .compilation import compile_network
from .finite import check_finite_scores

__all__ = ["Batch", "Task", "repeated_blocks"]

Batch = dict[str, Tensor]


class Task(pl.LightningModule):
    """Base class of tasks; subclasses define predictions, training loss and metrics.

    A batch is a dict with `image` (B, C, H, W) and the labels that the subclass needs.

    Logged values:

    * `train/loss`: mean of the epoch over all ranks; `train/loss_step`: loss of one rank at one step;
    * `train/lr`: learning rate before the factors of single parameter groups;
    * `train/auxiliary`: auxiliary losses of layers and penalties, if there are any;
    * `val/...` and `test/...`: the loss and each metric, exact over all images of all ranks.

    Checkpoints hold `checkpoint["kanvision"] = {"config": ..., "version": ..., "structure": ...}` and the
    items of `extra_state`. They hold only tensors and primitives, so that they load without running code.
    `structure` lists the changes of the model's structure since it was built (`kanvision.layers.structure`);
    loading a checkpoint applies them.

    Args:
        model: Model to train.
        metrics: Metrics of validation and test.
        test_metrics: Metrics of the test alone.
        optimizer: Arguments of `kanvision.optim.build_optimizer`.
        scheduler: Arguments of `kanvision.optim.build_scheduler` without the numbers of epochs and steps; and
            `monitor`, the validation metric of the schedule plateau.
        auxiliary: Factor of the auxiliary losses that layers add in training
            (`kanvision.layers.add_auxiliary`).
        penalty: Coefficients of `kanvision.layers.KANPenalty`, whose activation terms are auxiliary losses.
        config: Configuration of the run as plain dicts, lists, strings and numbers, saved in every
            checkpoint.
        channels_last: Keep images and feature maps in channels-last order.
        compile: Compile the model at its first use; "auto": and run it without where that fails.

    Raises:
        ValueError: If `config` holds anything but primitives.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        metrics: MetricCollection,
        test_metrics: MetricCollection | None = None,
        optimizer: Mapping[str, Any],
        scheduler: Mapping[str, Any],
        auxiliary: float = 1.0,
        penalty: Mapping[str, float] | None = None,
        config: Mapping[str, Any] | None = None,
        channels_last: bool = False,
        compile: bool | Literal["auto"] = False,
    ) -> None:
        super().__init__()
        _require_primitives(config, "config")
        self.memory_format = torch.channels_last if channels_last else torch.preserve_format
        self.model = model.to(memory_format=self.memory_format)
        self.auxiliary = auxiliary
        coefficients = {name: value for name, value in (penalty or {}).items() if value}
        self.penalty = KANPenalty(self.model, **coefficients) if coefficients else None
        if compile:
            compile_network(self.model, falls_back=compile == "auto")
        # The mean of a NaN loss must be NaN: the default drops it, and "disable" drops the weights.
        metrics = metrics.clone()
        metrics.add_metrics({"loss": MeanMetric(nan_strategy=float("nan"))})
        self.val_metrics = metrics.clone(prefix="val/")
        if test_metrics is not None:
            metrics.add_metrics(dict(test_metrics.items()))
        self.test_metrics = metrics.clone(prefix="test/")
        self.non_finite = NonFiniteImages()
        self.optimizer_options = dict(optimizer)
        self.scheduler_options = dict(scheduler)
        self.monitor: str | None = self.scheduler_options.pop("monitor", None)
        self.monitored: list[float] = []
        """Monitored metric after each validation, for the schedule plateau."""
        self.class_names: tuple[str, ...] = ()
        """Class names, for predictions from a checkpoint; empty: not known."""
        self.config = config

    @abstractmethod
    def training_loss(self, batch: Batch) -> Tensor:
        """Return the mean loss of a training batch, a scalar."""

    @abstractmethod
    def predictions(self, logits: Tensor) -> Tensor:
        """Return probabilities from the model's output."""

    @abstractmethod
    def metric_inputs(self, logits: Tensor, batch: Batch) -> dict[str, Any]:
        """Return the arguments of the metrics by name, and the mean loss of the batch as `value`."""

    def test_metric_inputs(self, logits: Tensor, batch: Batch) -> dict[str, Any]:
        """Return the arguments of the metrics of a test, which may have more metrics."""
        return self.metric_inputs(logits, batch)

    def metric_notes(self) -> dict[str, str]:
        """Return the definitions of metrics that have more than one, by their names."""
        return {}

    def extra_state(self) -> dict[str, Any]:
        """Return the state of the task beside weights, for a checkpoint: primitives only."""
        names = {"class_names": list(self.class_names)} if self.class_names else {}
        return names if self.monitor is None else {**names, "monitored": list(self.monitored)}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Restore the state of a checkpoint beside weights; missing keys change nothing."""
        self.monitored = list(state.get("monitored", self.monitored))
        self.class_names = tuple(state.get("class_names", self.class_names))

    def forward(self, images: Tensor) -> Tensor:
        """Return the output of the model for images (B, C, H, W)."""
        output: Tensor = self.model(images.to(memory_format=self.memory_format))
        return output

    def total_loss(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Return the training loss with what layers and penalties add, and that part alone; None: nothing."""
        with collect_auxiliary() as losses:
            loss = self.training_loss(batch)
        added = [self.auxiliary * value for value in losses]
        if self.penalty is not None:
            added.append(self.penalty())
        if not added:
            return loss, None
        auxiliary = torch.stack([value.to(loss.dtype) for value in added]).sum()
        return loss + auxiliary, auxiliary

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        size = len(batch["image"])
        loss, auxiliary = self.total_loss(batch)
        if auxiliary is not None:
            self._log_step("train/auxiliary", auxiliary, size, on_step=False, on_epoch=True, sync_dist=True)
        self._log_step("train/loss", loss, size, on_step=False, on_epoch=True, sync_dist=True)
        # of one rank, since a mean over ranks would cost a collective call at every step
        self._log_step("train/loss_step", loss, size, on_step=True, on_epoch=False, prog_bar=True)
        group = self.trainer.optimizers[0].param_groups[0]
        rate = torch.tensor(group["lr"] / group["lr_scale"], device=self.device)
        self._log_step("train/lr", rate, size, on_step=True, on_epoch=False)
        return loss

    def _log_step(self, name: str, value: Tensor, size: int, **options: Any) -> None:
        """Log a value of a training step, as `self.log` does.

        From the second batch of an epoch on, the value is added to Lightning's sums directly. `self.log`
        parses the settings of a metric at each call, which takes 0.5 ms per metric, in a step of 50 ms.
        """
        connector: Any = self.trainer._logger_connector
        results, key = self.trainer._results, f"training_step.{name}"
        is_begun = not connector._first_loop_iter and connector._current_fx == "training_step"
        if is_begun and results is not None and key in results:
            results.update_metrics(key, value.detach().clone(), size)
        else:
            self.log(name, value, batch_size=size, **options)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Any] | None:
        """Update the metrics; return the `predictions`, and the arguments of the metrics as `measured`.

        Return None for an empty batch, of which no image could be read.
        """
        return self._evaluate(batch, self.val_metrics, self.metric_inputs)

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Any] | None:
        """Update the metrics; return the dict that `validation_step` returns."""
        return self._evaluate(batch, self.test_metrics, self.test_metric_inputs)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the probabilities of one batch."""
        return self.predictions(self(batch["image"]))

    def _evaluate(
        self,
        batch: Batch,
        metrics: MetricCollection,
        metric_inputs: Callable[[Tensor, Batch], dict[str, Any]],
    ) -> dict[str, Any] | None:
        size = len(batch["image"])
        if not size:
            # the epoch's end is a collective call, for a rank without images as well
            self.log_dict(metrics, on_step=False, on_epoch=True, prog_bar=True, batch_size=1)
            self.non_finite.update(batch["image"], torch.zeros_like(batch["image"]).sum())
            return None
        logits = self(batch["image"])
        measured = metric_inputs(logits, batch)
        metrics.update(weight=size, **measured)
        self.non_finite.update(logits, measured["value"])
        self.log_dict(metrics, on_step=False, on_epoch=True, prog_bar=True, batch_size=size)
        return {"predictions": self.predictions(logits), "measured": measured}

    def on_validation_epoch_end(self) -> None:
        """Check that all outputs are finite, before any score is logged."""
        is_training = self.trainer.state.fn == "fit"
        check_finite_scores(
            self.non_finite, f"validation after epoch {self.current_epoch}" if is_training else "validation"
        )

    def on_test_epoch_end(self) -> None:
        """Check that all outputs are finite, before any score is logged."""
        check_finite_scores(self.non_finite, "test")

    def configure_model(self) -> None:
        """Shard the weights over the ranks under FSDP.

        Each repeated block of the model is one unit of sharding, and all other weights are another one.
        """
        if self.device_mesh is None:
            return
        from torch.distributed.fsdp import FSDPModule, fully_shard  # not on every platform

        if isinstance(self.model, FSDPModule):
            return
        mesh = self.device_mesh["data_parallel"]
        for block in repeated_blocks(self.model):
            fully_shard(block, mesh=mesh)
        fully_shard(self.model, mesh=mesh)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimizer with a placeholder for its schedule, which `on_train_start` builds."""
        optimizer = build_optimizer(self.model, **self.optimizer_options)
        self._group_settings = group_settings(optimizer)
        given = {key: value for key, value in self.scheduler_options.items() if key == "interval"}
        # To ask the trainer for its steps would start loaders, which draw seeds, before states are restored.
        placeholder: Any = build_scheduler(
            optimizer, max_epochs=1, steps_per_epoch=1, name="constant", warmup_epochs=0, **given
        )
        interval = "epoch" if placeholder.t_in_epochs else "step"
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": placeholder, "interval": interval}}

    def on_train_start(self) -> None:
        """Build the schedule, and set learning rates and the other settings of the optimizer.

        They come from the configuration, never from a checkpoint: a checkpoint of an epoch's end holds the
        rates from before the schedule's update, and the settings of its own run.

        Raises:
            ValueError: If the length of the training is not known.
        """
        epochs, batches = self.trainer.max_epochs, self.trainer.num_training_batches
        if math.isinf(batches) or epochs is None or epochs < 1:
            raise ValueError("a schedule needs trainer.max_epochs and training data of known length")
        apply_settings(self.trainer.optimizers[0], self._group_settings)
        # the largest of all epochs: the schedule counts as if every epoch had as many steps
        self._steps_per_epoch = max(steps_per_epoch(self.trainer, epoch) for epoch in range(epochs))
        loop: Any = self.trainer.fit_loop
        num_batches = loop.epoch_loop.batch_progress.current.processed if loop.restarted_mid_epoch else 0
        self._set_first_step(num_batches)
        for config in self.trainer.lr_scheduler_configs:
            schedule: Any = build_scheduler(
                self.trainer.optimizers[0],
                max_epochs=epochs,
                steps_per_epoch=self._steps_per_epoch,
                **self.scheduler_options,
            )
            if isinstance(schedule, Plateau):
                schedule.values = self.monitored
            config.scheduler = schedule
        self._set_rates(self.current_epoch)

    def on_train_epoch_start(self) -> None:
        """Set the rates of the epoch, which a run resumed from an epoch's end needs."""
        self._set_first_step(0)
        self._set_rates(self.current_epoch)

    def _set_first_step(self, num_batches: int) -> None:
        """Set the number of the epoch's first step, and the number of accumulated batches.

        Lightning applies a `GradientAccumulationScheduler` at the start of epochs alone, and so not to an
        epoch that is resumed.

        Args:
            num_batches: Number of batches of the epoch before a resume.
        """
        accumulated = batches_per_step(self.trainer, self.current_epoch)
        self.trainer.accumulate_grad_batches = accumulated
        self._first_step = self.global_step - math.ceil(num_batches / accumulated)

    def on_train_epoch_end(self) -> None:
        """Pass the monitored metric to the schedule, before any checkpoint of this epoch is written.

        Lightning sets the rates of the next epoch before it validates this one.
        """
        is_validated = (self.current_epoch + 1) % (self.trainer.check_val_every_n_epoch or 1) == 0
        if self.monitor is not None and is_validated:
            self.monitored.append(float(self.trainer.callback_metrics[self.monitor]))
            self._set_rates(self.current_epoch + 1)

    def lr_scheduler_step(self, scheduler: Scheduler, metric: Any) -> None:  # type: ignore[override]
        """Set the rates after an epoch or an optimizer step.

        timm's schedules are not torch's, and Lightning refuses them unless this method is overridden.
        """
        self._set_rates(self.current_epoch + 1)

    def _set_rates(self, epoch: int) -> None:
        """Set the rates of an epoch or, if they change within epochs, of the next optimizer step."""
        num_steps = self.global_step - self._first_step
        epoch_steps = steps_per_epoch(self.trainer, self.current_epoch)
        step = self.current_epoch * self._steps_per_epoch + num_steps * self._steps_per_epoch // epoch_steps
        for config in self.trainer.lr_scheduler_configs:
            schedule: Any = config.scheduler
            # a timm schedule ignores the call that is not of its interval
            schedule.step(epoch)
            schedule.step_update(step)

    def setup(self, stage: str) -> None:
        """Seed each rank but the first with a seed of its own, for dropout, drop path and mixup."""
        if stage == "fit" and self.global_rank > 0:
            seed = torch.initial_seed() % (2**32 - self.trainer.world_size)  # numpy takes 32 bits
            random_seed(seed, self.global_rank)  # type: ignore[no-untyped-call]

    def on_validation_start(self) -> None:
        """Average batch-norm statistics over the ranks, so that all of them validate the saved model."""
        if self.trainer.world_size > 1:
            distribute_bn(self.model, self.trainer.world_size, reduce=True)  # type: ignore[no-untyped-call]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the configuration, the version and the changes of structure."""
        checkpoint["kanvision"] = {
            "config": self.config,
            "version": version("kanvision"),
            "structure": structure_changes(self.model),
            **self.extra_state(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Apply the checkpoint's changes of structure to the model, and restore the extra state.

        The optimizer's state is sorted into the parameter groups of the current configuration.

        Raises:
            ValueError: If the structure of the model was changed in another way.
        """
        state = checkpoint.get("kanvision") or {}
        restore_structure(self.model, state.get("structure") or [])
        self.load_extra_state(state)
        options = (state.get("config") or {}).get("optimizer") or self.optimizer_options
        states = checkpoint.get("optimizer_states", [])
        checkpoint["optimizer_states"] = [
            regroup_state(each, self.model, options, self.optimizer_options) for each in states
        ]


def repeated_blocks(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the elements of each list of two or more modules of one class with weights, outermost first."""
    for child in model.children():
        kinds = {type(element) for element in child.children()}
        alike = isinstance(child, nn.Sequential | nn.ModuleList) and len(kinds) == 1 and len(child) > 1
        if alike and all(any(True for _ in element.parameters()) for element in child.children()):
            yield from child.children()
        else:
            yield from repeated_blocks(child)


def _require_primitives(value: object, key: str) -> None:
    if isinstance(value, Mapping):
        for name, item in value.items():
            _require_primitives(name, key)
            _require_primitives(item, f"{key}.{name}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _require_primitives(item, f"{key}[{index}]")
    elif type(value) not in (str, int, float, bool, type(None)):
        raise ValueError(
            f"{key} is a {type(value).__name__}; to be loaded safely, a checkpoint may hold only dict, list, "
            "tuple, str, int, float, bool and None"
        )
