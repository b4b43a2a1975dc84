"""What torchrun and Slurm say of the processes that they have started.

`${started:torchrun,devices}` and `${started:slurm,num_nodes}` are the processes of each machine and the
machines of the job, so that a run need not be told twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from hydra.core.hydra_config import HydraConfig

__all__ = ["is_distributed_worker", "is_local_rank_zero", "started"]


def started(launcher: str, what: str) -> int:
    """Processes of each machine (`devices`), or machines (`num_nodes`), of the job that this process is of.

    Args:
        launcher: torchrun or slurm.
        what: devices or num_nodes.

    Raises:
        ValueError: This process was started by something else, or the machines have unequal shares.
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
        launcher = HydraConfig.get().launcher  # the job is still to be started
        return int(launcher.get("tasks_per_node", 1)), int(launcher.get("nodes", 1))
    raise ValueError(
        "trainer=slurm is for tasks of a job of Slurm: srun python train.py trainer=slurm ... in a script or "
        "python train.py -m trainer=slurm hydra/launcher=submitit_slurm ..."
    )


def _shape(launcher: str, processes: int, machines: int) -> tuple[int, int]:
    each, rest = divmod(processes, machines)
    if rest:
        raise ValueError(
            f"{launcher} has started {processes} processes on {machines} machines; each needs as many as the "
            "others"
        )
    return each, machines


_SHAPES: dict[str, Callable[[], tuple[int, int]]] = {"torchrun": _torchrun, "slurm": _slurm}


def is_local_rank_zero() -> bool:
    """Whether this process does what is to be done once on each machine."""
    return _rank("LOCAL_RANK", "SLURM_LOCALID") == 0


def is_distributed_worker() -> bool:
    """Whether other processes work on the same run, and wait for this one."""
    # LOCAL_RANK is set for, and by, the processes that Lightning and torchrun start on one machine
    return "LOCAL_RANK" in os.environ or ("SLURM_PROCID" in os.environ and _rank("SLURM_NTASKS") > 1)


def _rank(*names: str) -> int:
    """The first of these numbers that the environment has; 0 if it has none."""
    return next((int(os.environ[name]) for name in names if name in os.environ), 0)
