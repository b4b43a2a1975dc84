"""Division of the global batch among processes and accumulated batches."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from kanvision.config.errors import Problem
from kanvision.config.schema.root import TrainConfig

from .rules import Rule, find_problems, plural

__all__ = ["RULES", "Share", "batch_problems", "known_processes", "mixes_images", "share_batch"]


class Share(NamedTuple):
    """Part of an optimizer step that one process computes."""

    images: int
    """Number of images of one batch."""
    batches: int
    """Number of batches whose gradients are accumulated."""


def known_processes(config: TrainConfig) -> int | None:
    """Return the number of processes of a run; None if it depends on the machine."""
    devices = config.trainer.devices
    if devices == "auto":
        return None
    return config.trainer.num_nodes * (len(devices) if isinstance(devices, list) else devices)


def mixes_images(config: TrainConfig) -> bool:
    """Return True if images are mixed in pairs, which needs even batches."""
    return config.mixup.mixup_alpha > 0 or config.mixup.cutmix_alpha > 0


def share_batch(config: TrainConfig, num_processes: int) -> Share | None:
    """Return the share of one process; None if there is no legal one.

    The images of a step are `trainer.global_batch_size`, or else `recipe.batch_size` where `data.batch_size`
    is null; without either, each process takes `data.batch_size`. A process takes at most
    `data.batch_size`, or else `recipe.micro_batch_size`, at once and accumulates the rest. The batch of a
    recipe is rounded if the processes cannot share it equally; `trainer.global_batch_size` is not.
    """
    own, steps = config.data.batch_size, config.trainer.accumulate_grad_batches
    required = config.trainer.global_batch_size
    whole = required or (None if own else config.recipe.batch_size)
    if whole is None:
        return Share(own, steps or 1) if own else None
    unit = num_processes * (2 if mixes_images(config) else 1)
    at_once = own or config.recipe.micro_batch_size or whole
    fewest = steps or math.ceil(whole / (num_processes * at_once))
    for batches in range(fewest, fewest + 1 if steps else 2 * fewest + 1):
        if whole % (unit * batches) == 0:
            return Share(whole // (num_processes * batches), batches)
    if required:
        return None
    return Share(max(1, round(whole / (unit * fewest))) * unit // num_processes, fewest)


def _uneven_share(config: TrainConfig, num_processes: int | None = None) -> dict[str, Any] | None:
    num_processes = num_processes or known_processes(config)
    whole, steps = config.trainer.global_batch_size, config.trainer.accumulate_grad_batches or 1
    if whole is None or num_processes is None or share_batch(config, num_processes):
        return None
    parts = num_processes * steps * (2 if mixes_images(config) else 1)
    near = sorted({max(whole // parts, 1) * parts, (whole // parts + 1) * parts})
    each = f"{num_processes} processes with {plural(steps, 'batch', 'es')} each"
    pairs = ", in pairs that are mixed" if mixes_images(config) else ""
    return {"whole": whole, "each": f"{each}{pairs}", "near": " or ".join(map(str, near))}


def _odd_pairs(config: TrainConfig) -> dict[str, str] | None:
    own, whole = config.data.batch_size, config.trainer.global_batch_size
    if not mixes_images(config) or not own or own % 2 == 0 or whole is not None:
        return None
    return {"alpha": "mixup_alpha" if config.mixup.mixup_alpha > 0 else "cutmix_alpha"}


# fmt: off
UNEVEN_SHARE = Rule(
    "trainer.global_batch_size trainer.devices trainer.num_nodes trainer.accumulate_grad_batches",
    _uneven_share, "{whole} images cannot be divided equally: {each}",
    "take {near}, or another number of processes", reads="*")
NO_BATCH = Rule(
    "data.batch_size recipe.batch_size", lambda *values: values == (None, None, None),
    "neither sets the number of images of an optimizer step", "set data.batch_size",
    reads="data.batch_size recipe.batch_size trainer.global_batch_size")
RULES = (
    Rule("data.batch_size mixup.{alpha}", _odd_pairs,
         "images are mixed in pairs, which an odd batch does not have",
         "take an even data.batch_size, or mixup.mixup_alpha=0 mixup.cutmix_alpha=0", reads="*"),
    NO_BATCH,
    UNEVEN_SHARE,
)
# fmt: on


def batch_problems(config: TrainConfig, num_processes: int) -> list[Problem]:
    """Return the problem of a batch that is missing, or that a number of processes cannot divide equally."""
    rule = UNEVEN_SHARE._replace(is_wrong=lambda config: _uneven_share(config, num_processes))
    return find_problems(config, [NO_BATCH, rule])
