"""Common parts of U-shaped networks."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["refuse_drop_path", "run_stages"]


def run_stages(x: Tensor, stages: nn.ModuleList, pool: nn.Module | None = None) -> list[Tensor]:
    """Return the output of each stage, from the full resolution down.

    Args:
        x: Maps (B, C, H, W).
        stages: Stages, each applied to the output of the previous one.
        pool: Pooling between two stages; None if the stages themselves reduce the resolution.
    """
    maps: list[Tensor] = []
    for stage in stages:
        x = stage(x if pool is None or not maps else pool(x))
        maps.append(x)
    return maps


def refuse_drop_path(network: nn.Module, drop_path_rate: float) -> None:
    """Refuse stochastic depth in a network without residual branches.

    Raises:
        ValueError: The rate is not 0.
    """
    if drop_path_rate:
        name = type(network).__name__
        raise ValueError(f"drop_path_rate={drop_path_rate}: {name} has no residual branches to drop")
