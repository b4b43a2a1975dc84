"""One global batch for all processes: how it is shared out, and accumulated where it is too large."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from kanvision.config.errors import Problem, problem_at
from kanvision.config.schema.root import TrainConfig

__all__ = ["Share", "batch_problems", "known_processes", "mixes_images", "share_batch"]


class Share(NamedTuple):
    """What one process does of an optimizer step."""

    images: int
    """Images of one batch."""
    batches: int
    """Batches whose gradients are accumulated."""


def known_processes(config: TrainConfig) -> int | None:
    """Number of processes of a run; None where the machine decides."""
    devices = config.trainer.devices
    if devices == "auto":
        return None
    return config.trainer.num_nodes * (len(devices) if isinstance(devices, list) else devices)


def mixes_images(config: TrainConfig) -> bool:
    """Return whether images are mixed in pairs, which takes even batches."""
    return config.mixup.mixup_alpha > 0 or config.mixup.cutmix_alpha > 0


def share_batch(config: TrainConfig, num_processes: int) -> Share | None:
    """Return the share of one process; None if there is no legal one.

    The images of a step are `trainer.global_batch_size`, or else `recipe.batch_size` where `data.batch_size`
    is null; without either, each process takes `data.batch_size`. A process takes at most
    `data.batch_size`, or else `recipe.micro_batch_size`, at once and accumulates the rest. The global batch
    of a recipe that cannot be shared equally is rounded; one that was asked for is not.
    """
    own, steps = config.data.batch_size, config.trainer.accumulate_grad_batches
    asked = config.trainer.global_batch_size
    whole = asked or (None if own else config.recipe.batch_size)
    if whole is None:
        return Share(own, steps or 1) if own else None
    unit = num_processes * (2 if mixes_images(config) else 1)
    at_once = own or config.recipe.micro_batch_size or whole
    fewest = steps or math.ceil(whole / (num_processes * at_once))
    for batches in range(fewest, fewest + 1 if steps else 2 * fewest + 1):
        if whole % (unit * batches) == 0:
            return Share(whole // (num_processes * batches), batches)
    if asked:
        return None
    return Share(max(1, round(whole / (unit * fewest))) * unit // num_processes, fewest)


def batch_problems(config: TrainConfig, num_processes: int | None = None) -> Iterator[Problem]:
    """Yield the complaint about a batch that is missing, or that so many processes cannot share.

    Args:
        config: The configuration.
        num_processes: Processes of the run; None: what the configuration says, if it does.
    """
    num_processes = num_processes or known_processes(config)
    whole = config.trainer.global_batch_size
    if (whole is not None and num_processes is None) or share_batch(config, num_processes or 1):
        return
    if whole is None:
        keys = ["data.batch_size", "recipe.batch_size"]
        yield problem_at(config, keys, "neither says how many images a step has", "set data.batch_size")
        return
    assert num_processes is not None
    steps = config.trainer.accumulate_grad_batches or 1
    parts = num_processes * steps * (2 if mixes_images(config) else 1)
    near = sorted({max(whole // parts, 1) * parts, (whole // parts + 1) * parts})
    keys = [
        "trainer.global_batch_size",
        "trainer.devices",
        "trainer.num_nodes",
        "trainer.accumulate_grad_batches",
    ]
    each = f"{num_processes} processes with {steps} batch{'es' if steps > 1 else ''} each"
    pairs = ", in pairs that are mixed" if mixes_images(config) else ""
    why = f"{whole} images cannot be shared out equally: {each}{pairs}"
    yield problem_at(config, keys, why, f"take {' or '.join(map(str, near))}, or another number of processes")
