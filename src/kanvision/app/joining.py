"""Processes that torchrun or Slurm have started meet, before one of them looks at the disk or at the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.lightning import LightningEnvironment

from kanvision.callbacks import gathered
from kanvision.config import ConfigError, Problem, TrainConfig, in_yaml, to_primitive

__all__ = ["join", "require_same"]

OWN = ("data.root", "data.num_workers")
"""What may differ between machines: each has its disks and its cores."""


def join(trainer: pl.Trainer) -> None:
    """Connect the processes of a job now, not when training starts.

    Those that Lightning itself starts come later, with the first one's command line and run folder.
    """
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if environment is None or isinstance(environment, LightningEnvironment) or trainer.world_size == 1:
        return
    trainer.strategy.setup_environment()  # a second call, by training, finds it done


def require_same(cfg: TrainConfig, resume: str | None) -> None:
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
    states = gathered(ours)
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
        ranks.setdefault(in_yaml(value), []).append(rank)
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
