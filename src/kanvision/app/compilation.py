"""Choice of `trainer.compile=auto`: whether compilation of the network pays on this device."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal, NamedTuple

from kanvision.config import TrainConfig

__all__ = ["Compilation", "choose_compilation"]

MIN_BATCHES = 2000
"""Compilation takes about a minute, and saves about a third of steps of 0.1 s."""


class Compilation(NamedTuple):
    """Choice for a run."""

    mode: bool | Literal["auto"]
    """Mode of the task; "auto" falls back where compilation fails."""
    reason: str

    def __str__(self) -> str:
        return f"{'torch.compile' if self.mode else 'none'}: {self.reason}"


def choose_compilation(cfg: TrainConfig, device: str, num_batches: int) -> Compilation:
    """Return whether a run is compiled.

    Args:
        cfg: Configuration.
        device: Kind of the device.
        num_batches: Number of training batches of one process.
    """
    if cfg.trainer.compile != "auto":
        return Compilation(cfg.trainer.compile, "trainer.compile")
    obstacle = _find_obstacle(cfg, device)
    if obstacle:
        return Compilation(False, obstacle)
    count = f"{num_batches:,} training batches"
    if num_batches < MIN_BATCHES:
        return Compilation(False, f"{count}; the time that it takes is won back from {MIN_BATCHES:,} on")
    return Compilation("auto", f"{count} on {device}")


def _find_obstacle(cfg: TrainConfig, device: str) -> str:
    """Return why compilation does not pay or does not work, or an empty string."""
    if device == "cpu":
        return "on a CPU, functions have loops of their own, which are compiled in less than a second"
    if device != "cuda":
        return f"torch.compile is not ready for {device}"
    if find_spec("triton") is None:
        return "it needs triton, which is not installed"
    return "with trainer.strategy=fsdp it is not tested" if cfg.trainer.strategy == "fsdp" else ""
