"""Distributed training: process groups, settings equal on all ranks, FSDP, synchronized batch norm."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.plugins.layer_sync import TorchSyncBatchNorm
from pytorch_lightning.strategies import ModelParallelStrategy
from timm.layers import convert_sync_batchnorm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from kanvision.callbacks import all_gather_object
from kanvision.config import ConfigError, Problem, TrainConfig, format_yaml, to_primitive
from kanvision.config.nested import flatten

__all__ = ["FSDPStrategy", "SyncBatchNormPlugin", "check_same_on_all_ranks", "init_process_group"]


class SyncBatchNormPlugin(TorchSyncBatchNorm):
    """Plugin that trains with synchronized batch norms and restores the original layers afterwards.

    Lightning's own plugin turns timm's `BatchNormAct2d`, a norm with an activation, into a norm without one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._replaced: dict[nn.Module, nn.Module] = {}

    def apply(self, model: nn.Module) -> nn.Module:
        """Return the model with synchronized layers for its batch norms; they share all tensors."""
        batch_norms = [
            (parent, name, child)
            for parent in model.modules()
            for name, child in parent.named_children()
            if isinstance(child, _BatchNorm)
        ]
        converted: nn.Module = convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        self._replaced = {getattr(parent, name): child for parent, name, child in batch_norms}
        return converted

    def revert(self, model: nn.Module) -> nn.Module:
        """Return the model with its original layers, which get the trained tensors."""
        for parent in list(model.modules()):
            for name, child in list(parent.named_children()):
                if (own := self._replaced.get(child)) is not None:
                    own._parameters.update(child._parameters)
                    own._buffers.update(child._buffers)
                    parent.add_module(name, own.train(child.training))
        self._replaced = {}
        return model


class FSDPStrategy(ModelParallelStrategy):
    """Lightning's strategy for torch's `fully_shard`, over all processes, with checkpoints of whole tensors.

    `Task.configure_model` decides which parameters are sharded together. A checkpoint is one file, the same
    as that of a run on one device, and runs of either kind resume from it. The strategy works on GPUs (NCCL)
    and on CPUs (gloo).
    """

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        """Create the process group; at the first call there may be no model yet."""
        if self.lightning_module is None:
            self._setup_distributed()
            return
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()


MACHINE_KEYS = ("data.root", "data.num_workers")
"""Settings that may differ between machines, which have their own disks and cores."""


def init_process_group(trainer: pl.Trainer) -> None:
    """Create the process group of torchrun or Slurm now, before training starts.

    Processes that Lightning itself launches start later, with the command line and run folder of rank 0.
    """
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if environment is None or isinstance(environment, LightningEnvironment) or trainer.world_size == 1:
        return
    trainer.strategy.setup_environment()  # the second call, by training, has no effect


def check_same_on_all_ranks(cfg: TrainConfig, checkpoint: str | None) -> None:
    """Check that all ranks have the same settings and the same checkpoint; a collective call.

    Commands may be typed on each machine, and each machine looks for the run folder and the checkpoint on its
    own disks. Ranks that differ would train diverging weights or wait for each other for ever.

    Raises:
        ConfigError: On all ranks, if anything differs; lists every difference.
    """
    settings = flatten(to_primitive(cfg)) | {"the checkpoint to resume": checkpoint}
    ranks = all_gather_object(settings)
    problems = [
        _problem(key, [rank.get(key) for rank in ranks])
        for key in dict.fromkeys(key for rank in ranks for key in rank)
        if key not in MACHINE_KEYS and any(rank.get(key) != ranks[0].get(key) for rank in ranks)
    ]
    if problems:
        raise ConfigError(problems, "the settings of the processes of this run")


def _problem(key: str, values: list[Any]) -> Problem:
    ranks: dict[str, list[int]] = {}
    for rank, value in enumerate(values):
        ranks.setdefault(format_yaml(value), []).append(rank)
    given = "; ".join(
        f"{key}={value} in process {', '.join(map(str, numbers))}" for value, numbers in ranks.items()
    )
    is_path = key == "run.dir" or "checkpoint" in key
    fix = "run.root must be one folder that all machines share" if is_path else ""
    return Problem((key,), (given,), "all processes of a run need the same value", fix)
