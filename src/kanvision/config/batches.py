"""One batch for all processes: how `trainer.global_batch_size` is shared out."""

from __future__ import annotations

from collections.abc import Iterator

from .problems import Problem, conflict
from .schema import TrainConfig

__all__ = ["batch_problems", "known_processes", "one_share"]


def known_processes(config: TrainConfig) -> int | None:
    """Number of processes of a run; None where the machine decides."""
    devices = config.trainer.devices
    if devices == "auto":
        return None
    return config.trainer.num_nodes * (len(devices) if isinstance(devices, list) else devices)


def one_share(config: TrainConfig, num_processes: int) -> int:
    """Images of one batch of one process; 0 where `trainer.global_batch_size` cannot be shared out."""
    whole = config.trainer.global_batch_size
    if whole is None:
        return config.data.batch_size
    share, rest = divmod(whole, num_processes * config.trainer.accumulate_grad_batches)
    return 0 if rest else share


def batch_problems(config: TrainConfig, num_processes: int | None = None) -> Iterator[Problem]:
    """The complaint about a global batch that so many processes cannot share.

    Args:
        config: The configuration.
        num_processes: Processes of the run; None: what the configuration says, if it does.
    """
    num_processes = num_processes or known_processes(config)
    if num_processes is None or one_share(config, num_processes):
        return
    steps = config.trainer.accumulate_grad_batches
    parts = num_processes * steps
    whole = config.trainer.global_batch_size or 0
    near = sorted({max(whole // parts, 1) * parts, (whole // parts + 1) * parts})
    keys = [
        "trainer.global_batch_size",
        "trainer.devices",
        "trainer.num_nodes",
        "trainer.accumulate_grad_batches",
    ]
    each = f"{num_processes} processes with {steps} batch{'es' if steps > 1 else ''} each"
    why = f"{whole} images cannot be shared out equally: {each}"
    yield conflict(config, keys, why, f"take {' or '.join(map(str, near))}, or another number of processes")
