"""Normalization by short name, for 1-d, 2-d and 3-d maps and for channels-last tokens.

Shapes: B batch, C channels, N positions.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from kanvision.spec.models import NORMS

__all__ = [
    "INPUT_NORMS",
    "NORMS",
    "ChannelLayerNorm",
    "FrozenStatistics",
    "MinMaxNorm",
    "TokenNorm",
    "create_norm",
    "has_shared_statistics",
]

INPUT_NORMS = ("batch", "instance", "layer", "minmax")
_BATCH = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_GROUPS = 32


class _TakesOnePosition(_InstanceNorm):
    """Instance normalization that only scales and shifts a map of a single position.

    One value has no variance: torch refuses it in training, and in evaluation returns only the shift.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalize each channel over space."""
        if input.shape[2:].numel() != 1:
            return super().forward(input)
        if not self.affine:
            return input
        shape = (-1, *(1,) * (input.ndim - 2))
        return torch.addcmul(self.bias.view(shape), input, self.weight.view(shape))


class _InstanceNorm1d(_TakesOnePosition, nn.InstanceNorm1d):
    pass


class _InstanceNorm2d(_TakesOnePosition, nn.InstanceNorm2d):
    pass


class _InstanceNorm3d(_TakesOnePosition, nn.InstanceNorm3d):
    pass


_INSTANCE = {1: _InstanceNorm1d, 2: _InstanceNorm2d, 3: _InstanceNorm3d}


class ChannelLayerNorm(nn.LayerNorm):
    """Layer normalization over the channels of each position: (B, C, ...) -> (B, C, ...)."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalize axis 1."""
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


class MinMaxNorm(nn.Module):
    """Map of each sample onto [-1, 1]: z = 2 (x - min) / (max - min) - 1, over all axes except the first.

    The published KALN layer uses the extremes of the whole batch, so that a prediction depends on the other
    images of its batch; extremes of each sample avoid that. A constant sample is mapped to -1.

    Args:
        eps: Minimum difference of the extremes.
        num_groups: Groups of channels (axis 1) with their own extremes, as grouped KALN layers have them.
    """

    def __init__(self, eps: float = 1e-6, num_groups: int = 1) -> None:
        super().__init__()
        self.eps = eps
        self.num_groups = num_groups

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, ...) to (B, ...)."""
        if x.numel() == 0:
            return x
        exact = x if x.dtype == torch.float64 else x.float()
        grouped = (
            exact.reshape(len(x), self.num_groups, -1, *x.shape[2:])
            if self.num_groups > 1
            else exact.unsqueeze(1)
        )
        axes = tuple(range(2, grouped.ndim))  # (B, G, ...)
        low = grouped.amin(dim=axes, keepdim=True)
        high = grouped.amax(dim=axes, keepdim=True)
        z = 2 * (grouped - low) / (high - low).clamp_min(self.eps) - 1
        return z.reshape(x.shape).to(x.dtype)

    def extra_repr(self) -> str:
        """Return the parameters for `repr`."""
        return f"eps={self.eps}, num_groups={self.num_groups}"


class TokenNorm(nn.Module):
    """Norm for (B, C, N) maps applied to channels-last tokens, (B, ..., C) -> (B, ..., C).

    Axis 0 is the sample and the axes between are its positions; (B, C) is one position per sample.
    """

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """Normalize channels-last tokens."""
        tokens = x.reshape(x.shape[0], math.prod(x.shape[1:-1]), x.shape[-1])  # (B, N, C)
        return cast(Tensor, self.norm(tokens.transpose(1, 2))).transpose(1, 2).reshape(x.shape)


def create_norm(
    name: str | None,
    num_channels: int,
    ndim: int,
    *,
    affine: bool = True,
    key: str = "norm",
    legal: tuple[str, ...] = NORMS,
) -> nn.Module:
    """Build a normalization layer.

    Args:
        name: None (no norm), "batch", "instance" (per sample and channel over space; a
            map of one position is only scaled and shifted), "group" (per sample,
            in gcd(32, C) groups of channels), "layer" (per position over the channels) or "minmax" (per
            sample onto [-1, 1]).
        num_channels: Number of channels, C.
        ndim: Number of space axes of a map (B, C, *space); 0 means channels-last tokens (B, ..., C).
        affine: Give the norm a learnable scale and shift ("minmax" has none).
        key: Argument to name in error messages.
        legal: Legal names.

    Raises:
        ValueError: The name is not legal.
    """
    if name is None:
        return nn.Identity()
    if name not in legal:
        raise ValueError(f"{key}={name!r} is not known; legal values: None, {', '.join(legal)}")
    if name == "minmax":
        return MinMaxNorm()
    if name == "layer":
        cls = ChannelLayerNorm if ndim else nn.LayerNorm
        return cls(num_channels, elementwise_affine=affine)
    norm: nn.Module
    if name == "group":
        norm = nn.GroupNorm(math.gcd(_GROUPS, num_channels), num_channels, affine=affine)
    else:
        norm = (_BATCH if name == "batch" else _INSTANCE)[ndim or 1](num_channels, affine=affine)
    return norm if ndim else TokenNorm(norm)


class FrozenStatistics:
    """Context in which a batch norm sees the same batch again without updating its running statistics.

    It can be entered repeatedly, because each backward pass through one graph recomputes the layer.

    Args:
        norm: Norm, or a module that contains it.
    """

    def __init__(self, norm: nn.Module) -> None:
        self._norms = [module for module in norm.modules() if isinstance(module, _BatchNorm)]
        self._kept: list[list[tuple[float | None, Tensor | None]]] = []

    def __enter__(self) -> None:
        self._kept.append([(norm.momentum, norm.num_batches_tracked) for norm in self._norms])
        for norm in self._norms:
            norm.momentum = 0.0
            norm.num_batches_tracked = None

    def __exit__(self, *exception: object) -> None:
        for norm, (momentum, count) in zip(self._norms, self._kept.pop(), strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked = count


def has_shared_statistics(norm: nn.Module) -> bool:
    """Return True if a norm communicates with other processes in its forward pass, so must run only once."""
    return any(isinstance(module, nn.SyncBatchNorm) for module in norm.modules())
