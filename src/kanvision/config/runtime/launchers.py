"""Number of processes and machines of a job of torchrun or Slurm.

`${started:torchrun,devices}` is the number of processes on each machine, `${started:slurm,num_nodes}` the
number of machines, so that the trainer does not repeat what the launcher was given.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from hydra.core.hydra_config import HydraConfig

from kanvision.config.program import program

__all__ = ["is_distributed_worker", "is_local_rank_zero", "started"]


def started(launcher: str, what: str) -> int:
    """Return the number of processes on each machine (`devices`), or of machines (`num_nodes`), of the job.

    Args:
        launcher: torchrun or slurm.
        what: devices or num_nodes.

    Raises:
        ValueError: Another launcher started this process, or the machines have unequal numbers of processes.
    """
    devices, num_nodes = _SHAPES[launcher]()
    return {"devices": devices, "num_nodes": num_nodes}[what]


def _torchrun() -> tuple[int, int]:
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        raise ValueError(
            "trainer=torchrun is for processes that torchrun has started: "
            "torchrun --nproc-per-node=<processes> train.py trainer=torchrun ..."
        )
    return _shape("torchrun", int(os.environ["WORLD_SIZE"]), int(os.environ["GROUP_WORLD_SIZE"]))


def _slurm() -> tuple[int, int]:
    if "SLURM_PROCID" in os.environ:
        tasks, nodes = (int(os.environ.get(name, "1")) for name in ("SLURM_NTASKS", "SLURM_NNODES"))
        return _shape("Slurm", tasks, nodes)
    if HydraConfig.initialized() and "submitit" in str(HydraConfig.get().launcher.get("_target_")):
        launcher = HydraConfig.get().launcher  # this process submits the job
        return int(launcher.get("tasks_per_node", 1)), int(launcher.get("nodes", 1))
    start = program("train")
    raise ValueError(
        f"trainer=slurm is for tasks of a job of Slurm: srun {start} trainer=slurm ... in a script or "
        f"{start} -m trainer=slurm hydra/launcher=submitit_slurm ..."
    )


def _shape(launcher: str, processes: int, machines: int) -> tuple[int, int]:
    each, rest = divmod(processes, machines)
    if rest:
        raise ValueError(
            f"{launcher} has started {processes} processes on {machines} machines; all need the same number"
        )
    return each, machines


_SHAPES: dict[str, Callable[[], tuple[int, int]]] = {"torchrun": _torchrun, "slurm": _slurm}


def is_local_rank_zero() -> bool:
    """Return True if this process is the first one on its machine."""
    return _rank("LOCAL_RANK", "SLURM_LOCALID") == 0


def is_distributed_worker() -> bool:
    """Return True if this process is one of several processes of a run."""
    # LOCAL_RANK is set for, and by, the processes that Lightning and torchrun start on one machine
    return "LOCAL_RANK" in os.environ or ("SLURM_PROCID" in os.environ and _rank("SLURM_NTASKS") > 1)


def _rank(*names: str) -> int:
    """Return the first of these variables that the environment has; 0 if it has none."""
    return next((int(os.environ[name]) for name in names if name in os.environ), 0)
