"""Processes that torchrun or Slurm have started meet, before one of them looks at the disk or at the data."""

from __future__ import annotations

from collections.abc import Mapping
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

__all__ = [
    "FSDPStrategy",
    "SyncBatchNormPlugin",
    "check_same_on_all_ranks",
    "init_process_group",
]


class SyncBatchNormPlugin(TorchSyncBatchNorm):
    """Exchanges batch-norm layers while a network trains, and puts them back afterwards.

    Lightning's own turns timm's `BatchNormAct2d`, a norm with an activation, into a norm without one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._replaced: dict[nn.Module, nn.Module] = {}

    def apply(self, model: nn.Module) -> nn.Module:
        """The network with synchronized layers in the places of its batch norms; they share all tensors."""
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
        """The network with its own layers, and with what the others have learned."""
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

    What is sharded together says `Task.configure_model`. A checkpoint is one file, the same as that of a run
    on one device, and each may go on from the other's. It works on GPUs (NCCL) and on CPUs (gloo).
    """

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        """Connect the processes; the first time there may be no network yet."""
        if self.lightning_module is None:
            self._setup_distributed()
            return
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()


OWN = ("data.root", "data.num_workers")
"""What may differ between machines: each has its disks and its cores."""


def init_process_group(trainer: pl.Trainer) -> None:
    """Connect the processes of a job now, not when training starts.

    Those that Lightning itself starts come later, with the first one's command line and run folder.
    """
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if environment is None or isinstance(environment, LightningEnvironment) or trainer.world_size == 1:
        return
    trainer.strategy.setup_environment()  # a second call, by training, finds it done


def check_same_on_all_ranks(cfg: TrainConfig, resume: str | None) -> None:
    """Make sure that all processes were told the same and have found the same; a collective call.

    Commands are given on each machine by hand, and the folder of the run and the checkpoint to go on from are
    looked for on each machine's disks. What differs would be two trainings in one: weights that drift apart,
    or processes that wait for each other for ever.

    Args:
        cfg: The configuration of this process.
        resume: The checkpoint that it would go on from.

    Raises:
        ConfigError: On all processes, where something differs; names all of it.
    """
    ours = _flat(to_primitive(cfg)) | {"the checkpoint to go on from": resume}
    states = all_gather_object(ours)
    problems = [
        _problem(key, [state.get(key) for state in states])
        for key in dict.fromkeys(key for state in states for key in state)
        if key not in OWN and any(state.get(key) != states[0].get(key) for state in states)
    ]
    if problems:
        raise ConfigError(problems, "what the processes of this run were started with")


def _problem(key: str, values: list[Any]) -> Problem:
    ranks: dict[str, list[int]] = {}
    for rank, value in enumerate(values):
        ranks.setdefault(format_yaml(value), []).append(rank)
    given = "; ".join(f"{key}={value} in process {', '.join(map(str, who))}" for value, who in ranks.items())
    of_folder = key == "run.dir" or "checkpoint" in key
    fix = "run.root must be one folder that all machines share" if of_folder else ""
    return Problem((key,), (given,), "all processes of a run need the same", fix)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by dotted keys."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
