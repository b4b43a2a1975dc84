"""What all tasks share: how a network is run, optimized, measured and saved."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from typing import Any

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
from .finite import require_scores

__all__ = ["Batch", "Task", "repeated_blocks"]

Batch = dict[str, Tensor]


class Task(pl.LightningModule):
    """A network in training; subclasses say what is predicted, what the loss is and what is measured.

    A batch is a dict with `image` (B, C, H, W) and what the subclass needs besides.

    Logged: `train/loss` (mean of the epoch over all processes), `train/loss_step` (of one process),
    `train/lr` (before the factors of single parameter groups), `train/auxiliary` (what layers and penalties
    add to the training loss, where there is any), and `val/...`, `test/...` for the loss and each metric,
    exact over all images of all processes.

    Checkpoints carry `checkpoint["kanvision"] = {"config": ..., "version": ..., "structure": ...}`, and what
    `kept` gives, and hold nothing but tensors and primitives, so that they load without running code.
    `structure` lists how the network was changed since it was built (`kanvision.layers.structure`); loading
    does the same to it.

    Args:
        model: The network.
        metrics: What is measured on validation and test images.
        test_metrics: What is measured on test images besides.
        optimizer: Arguments of `kanvision.optim.build_optimizer`.
        scheduler: Arguments of `kanvision.optim.build_scheduler` but the numbers of epochs and steps; and
            `monitor`, the metric of validation that a schedule called plateau watches.
        auxiliary: Factor of the losses that layers add in training (`kanvision.layers.add_auxiliary`).
        penalty: Coefficients of `kanvision.layers.KANPenalty`; its activation terms are such losses of
            layers.
        config: The run's configuration as plain dicts, lists, strings and numbers, kept in every checkpoint.
        channels_last: Keep images and feature maps in channels-last order.
        compile: Compile the network at its first use.

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
        compile: bool = False,
    ) -> None:
        super().__init__()
        _require_primitives(config, "config")
        self.memory_format = torch.channels_last if channels_last else torch.preserve_format
        self.model = model.to(memory_format=self.memory_format)
        self.auxiliary = auxiliary
        wanted = {name: value for name, value in (penalty or {}).items() if value}
        self.penalty = KANPenalty(self.model, **wanted) if wanted else None
        if compile:
            # in place: torch.compile(model) would prefix every name in the checkpoint with _orig_mod.
            self.model.compile()
        # A NaN loss must stay NaN: the default drops it from the mean, and "disable" drops the weights.
        measured = metrics.clone()
        measured.add_metrics({"loss": MeanMetric(nan_strategy=float("nan"))})
        self.val_metrics = measured.clone(prefix="val/")
        if test_metrics is not None:
            measured.add_metrics(dict(test_metrics.items()))
        self.test_metrics = measured.clone(prefix="test/")
        self.non_finite = NonFiniteImages()
        self.optimizer_options = dict(optimizer)
        self.scheduler_options = dict(scheduler)
        self.monitor: str | None = self.scheduler_options.pop("monitor", None)
        self.monitored: list[float] = []
        """The monitored metric after each validation, for a schedule that watches it."""
        self.class_names: tuple[str, ...] = ()
        """What the classes are called, for predictions from a checkpoint; empty: not known."""
        self.config = config

    @abstractmethod
    def training_loss(self, batch: Batch) -> Tensor:
        """Mean loss of a training batch, a scalar."""

    @abstractmethod
    def predictions(self, logits: Tensor) -> Tensor:
        """Probabilities from the network's output."""

    @abstractmethod
    def metric_inputs(self, logits: Tensor, batch: Batch) -> dict[str, Any]:
        """Arguments of the metrics by name, and the mean loss of the batch as `value`."""

    def test_metric_inputs(self, logits: Tensor, batch: Batch) -> dict[str, Any]:
        """The same for a test, which may measure more."""
        return self.metric_inputs(logits, batch)

    def metric_notes(self) -> dict[str, str]:
        """How metrics are to be read, by their names; for those that have more than one reading."""
        return {}

    def extra_state(self) -> dict[str, Any]:
        """What a checkpoint holds of a task beside weights: primitives only."""
        names = {"class_names": list(self.class_names)} if self.class_names else {}
        return names if self.monitor is None else {**names, "monitored": list(self.monitored)}

    def load_extra_state(self, kept: Mapping[str, Any]) -> None:
        """Go on with what a checkpoint holds beside weights; keys that are not there are left alone."""
        self.monitored = list(kept.get("monitored", self.monitored))
        self.class_names = tuple(kept.get("class_names", self.class_names))

    def forward(self, images: Tensor) -> Tensor:
        """Output of the network for images (B, C, H, W)."""
        output: Tensor = self.model(images.to(memory_format=self.memory_format))
        return output

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch."""
        size = len(batch["image"])
        with collect_auxiliary() as losses:
            loss = self.training_loss(batch)
        added = [self.auxiliary * value for value in losses]
        if self.penalty is not None:
            added.append(self.penalty())
        if added:
            auxiliary = torch.stack([value.to(loss.dtype) for value in added]).sum()
            loss = loss + auxiliary
            self._log_step("train/auxiliary", auxiliary, size, on_step=False, on_epoch=True, sync_dist=True)
        self._log_step("train/loss", loss, size, on_step=False, on_epoch=True, sync_dist=True)
        # The curve within an epoch is that of one process: averaging it would cost a collective at every
        # step.
        self._log_step("train/loss_step", loss, size, on_step=True, on_epoch=False, prog_bar=True)
        group = self.trainer.optimizers[0].param_groups[0]
        rate = torch.tensor(group["lr"] / group["lr_scale"], device=self.device)
        self._log_step("train/lr", rate, size, on_step=True, on_epoch=False)
        return loss

    def _log_step(self, name: str, value: Tensor, size: int, **options: Any) -> None:
        """`self.log` of a training step.

        From the second batch of an epoch on, without what Lightning does with the settings of a metric each
        time: taking them apart costs 0.5 ms for each of them, of a step of 50.
        """
        connector: Any = self.trainer._logger_connector
        results, key = self.trainer._results, f"training_step.{name}"
        begun = not connector._first_loop_iter and connector._current_fx == "training_step"
        if begun and results is not None and key in results:
            results.update_metrics(key, value.detach().clone(), size)
        else:
            self.log(name, value, batch_size=size, **options)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Any] | None:
        """Measure one batch; returns its `predictions`, and what the metrics were given as `measured`.

        A batch may be empty, where none of its images could be read; then None.
        """
        return self._evaluate(batch, self.val_metrics, self.metric_inputs)

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Any] | None:
        """Measure one batch; returns the same as `validation_step`."""
        return self._evaluate(batch, self.test_metrics, self.test_metric_inputs)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Probabilities of one batch."""
        return self.predictions(self(batch["image"]))

    def _evaluate(
        self,
        batch: Batch,
        metrics: MetricCollection,
        metric_inputs: Callable[[Tensor, Batch], dict[str, Any]],
    ) -> dict[str, Any] | None:
        size = len(batch["image"])
        if not size:
            # the epoch's end is a collective call, whether this process has measured anything or not
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
        """Raise an error where there is nothing to score, before any score is logged."""
        training = self.trainer.state.fn == "fit"
        require_scores(
            self.non_finite, f"validation after epoch {self.current_epoch}" if training else "validation"
        )

    def on_test_epoch_end(self) -> None:
        """Do the same for a test."""
        require_scores(self.non_finite, "test")

    def configure_model(self) -> None:
        """Spread the weights over processes, where the trainer's strategy has given them a place (FSDP).

        The repeated blocks of a network are gathered one by one when they are needed, and what is left
        together.
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
        """The optimizer, and a place for its schedule, which `on_train_start` fills."""
        optimizer = build_optimizer(self.model, **self.optimizer_options)
        self._group_settings = group_settings(optimizer)
        interval = self.scheduler_options.get("interval", "epoch")
        # The length of an epoch is not known yet, and asking the trainer for it (estimated_stepping_batches)
        # would start the loaders, and draw their seeds, before a checkpoint's random states are restored.
        scheduler: Any = build_scheduler(
            optimizer, max_epochs=1, steps_per_epoch=1, name="constant", interval=interval
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": interval}}

    def on_train_start(self) -> None:
        """Build the schedule, and set the rates for where training starts and the optimizer's other settings.

        They come from the configuration, never from a checkpoint: one made at the end of an epoch holds the
        rates from before the schedule's update, and the settings and the curve of its own run.

        Raises:
            ValueError: If the length of the training is not known.
        """
        epochs, batches = self.trainer.max_epochs, self.trainer.num_training_batches
        if math.isinf(batches) or epochs is None or epochs < 1:
            raise ValueError("a schedule needs trainer.max_epochs and training data of known length")
        apply_settings(self.trainer.optimizers[0], self._group_settings)
        # of several numbers, the largest: the schedule counts as if all epochs had as many steps
        self._steps_per_epoch = max(steps_per_epoch(self.trainer, epoch) for epoch in range(epochs))
        loop: Any = self.trainer.fit_loop
        self._begin(loop.epoch_loop.batch_progress.current.processed if loop.restarted_mid_epoch else 0)
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
        """Set the rates, which a run that goes on after an epoch's last step has not seen set."""
        self._begin(0)
        self._set_rates(self.current_epoch)

    def _begin(self, done: int) -> None:
        """Take note of where an epoch begins in the schedule, some batches of which may be done already.

        Lightning asks a `GradientAccumulationScheduler` at the start of epochs only, so that a run that is
        resumed within one would go on without it.
        """
        accumulated = batches_per_step(self.trainer, self.current_epoch)
        self.trainer.accumulate_grad_batches = accumulated
        self._first_step = self.global_step - math.ceil(done / accumulated)

    def on_train_epoch_end(self) -> None:
        """Let a schedule see the monitored metric, before any checkpoint of this epoch is written.

        Lightning sets the rates of the next epoch before it validates this one.
        """
        validated = (self.current_epoch + 1) % (self.trainer.check_val_every_n_epoch or 1) == 0
        if self.monitor is not None and validated:
            self.monitored.append(float(self.trainer.callback_metrics[self.monitor]))
            self._set_rates(self.current_epoch + 1)

    def lr_scheduler_step(self, scheduler: Scheduler, metric: Any) -> None:  # type: ignore[override]
        """Set the rates for what comes after the epoch or optimizer step that has just ended.

        timm's schedules are none of torch's, and Lightning refuses them where this is not overridden.
        """
        self._set_rates(self.current_epoch + 1)

    def _set_rates(self, epoch: int) -> None:
        """Set the rates for `epoch` or, where they change within epochs, for the optimizer step to come."""
        taken, whole = self.global_step - self._first_step, steps_per_epoch(self.trainer, self.current_epoch)
        done = self.current_epoch * self._steps_per_epoch + taken * self._steps_per_epoch // whole
        for config in self.trainer.lr_scheduler_configs:
            schedule: Any = config.scheduler
            # a timm schedule ignores the one of the two calls that is not its interval
            schedule.step(epoch)
            schedule.step_update(done)

    def setup(self, stage: str) -> None:
        """Give each process but the first random numbers of its own, for dropout, drop path and mixup."""
        if stage == "fit" and self.global_rank > 0:
            seed = torch.initial_seed() % (2**32 - self.trainer.world_size)  # numpy takes 32 bits
            random_seed(seed, self.global_rank)  # type: ignore[no-untyped-call]

    def on_validation_start(self) -> None:
        """Average batch-norm statistics over processes, so that all of them validate what is saved."""
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
        """Change the network as that of the checkpoint was changed, and take up what else it holds.

        The optimizer's state is brought into the groups that the configuration asks for now.

        Raises:
            ValueError: If the network was changed otherwise or further.
        """
        kept = checkpoint.get("kanvision") or {}
        restore_structure(self.model, kept.get("structure") or [])
        self.load_extra_state(kept)
        options = (kept.get("config") or {}).get("optimizer") or self.optimizer_options
        states = checkpoint.get("optimizer_states", [])
        checkpoint["optimizer_states"] = [
            regroup_state(state, self.model, options, self.optimizer_options) for state in states
        ]


def repeated_blocks(network: nn.Module) -> Iterator[nn.Module]:
    """The elements of each list of two or more modules of one class that have weights, outermost first."""
    for child in network.children():
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
