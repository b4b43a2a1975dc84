"""Schedules and settings of the optimizer and the trainer."""

from __future__ import annotations

from typing import Final, Literal, get_args

Schedule = Literal["cosine", "linear", "poly", "step", "exponential", "constant", "plateau"]
"""Shape of the learning rate over the training."""
SCHEDULES: Final[tuple[Schedule, ...]] = get_args(Schedule)
Interval = Literal["epoch", "step"]
"""Time between two updates of the learning rate."""
INTERVALS: Final[tuple[Interval, ...]] = get_args(Interval)
LRScaling = Literal["none", "linear", "sqrt"]
"""Rule by which the learning rate follows the global batch."""
LR_SCALINGS: Final[tuple[LRScaling, ...]] = get_args(LRScaling)
Direction = Literal["min", "max"]
"""Direction in which a metric improves."""
DIRECTIONS: Final[tuple[Direction, ...]] = get_args(Direction)

Accelerator = Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu", "xpu"]
Precision = Literal["32-true", "16-mixed", "bf16-mixed", "bf16-true", "16-true", "64-true"]
Strategy = Literal[
    "auto", "ddp", "ddp_find_unused_parameters_true", "ddp_spawn", "ddp_fork", "fsdp", "single_device"
]
Profiler = Literal["simple", "advanced", "pytorch"]
