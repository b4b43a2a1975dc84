"""Options that all KAN layers share, and checks of their sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

import torch

__all__ = ["KANOptions", "check_channels"]


class KANOptions(TypedDict, total=False):
    """Options of every KAN layer; see `KANLayer` for their meaning and defaults."""

    basis_kwargs: Mapping[str, Any] | None
    base_act: str | None
    input_norm: str | None
    basis_act: str | None
    norm: str | None
    norm_affine: bool
    act: str | None
    bias: bool
    init: str
    init_noise: float
    edge_scale: bool
    drop_rate: float
    drop_kind: str
    drop_position: str
    checkpoint: bool
    device: torch.device | str | None
    dtype: torch.dtype | None


def check_channels(in_channels: int, out_channels: int, groups: int) -> None:
    """Check that numbers of channels and groups are positive and that the groups divide the channels.

    Raises:
        ValueError: A number is not legal.
    """
    channels = {"in_channels": in_channels, "out_channels": out_channels}
    for key, value in {**channels, "groups": groups}.items():
        if value < 1:
            raise ValueError(f"{key}={value} must be at least 1")
    for key, value in channels.items():
        if value % groups:
            raise ValueError(f"groups={groups} does not divide {key}={value}")
