"""Linear maps of expanded inputs: matrix products and convolutions, with weights in the order of the maps.

Weights are channel-major, (O, C/G K', *k) with K' functions. A constant first function has the same map for
all channels and samples; where it is folded, one map of its level with the sum of its weights replaces C
maps, and K functions of x remain.

Shapes: B batch, C channels, G groups, K functions of x, O outputs, *S space, *k kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from .arrangement import Arrangement

__all__ = ["Contraction", "Convolution", "MatrixProduct", "split_weight"]

_CONV: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@dataclass(frozen=True)
class MatrixProduct:
    """Matrix product on the last axis of (..., C).

    Maps are (R, K C), function-major: the channels are the inner axis, along which loops run.
    """

    channel_dim: ClassVar[int] = -1
    keeps_order: ClassVar[bool] = False

    def order(self, x: Tensor) -> Tensor:
        """Return x as contiguous points (R, C)."""
        return (x if x.ndim == 2 else x.reshape(-1, x.shape[-1])).contiguous()

    def restore(self, points: Tensor, x: Tensor) -> Tensor:
        """Return points (R, n) in the shape of x, (..., n)."""
        return points if x.ndim == 2 else points.view(*x.shape[:-1], points.shape[-1])

    def shape(self, y: Tensor, x: Tensor) -> Tensor:
        """Return results (R, O) in the shape of x, (..., O)."""
        return self.restore(y, x)

    def flatten(self, grad: Tensor) -> Tensor:
        """Return the gradient of the results in the order of the points."""
        return self.order(grad)

    def allocate(self, points: Tensor, num_functions: int) -> Tensor:
        """Return a tensor for the maps of a block of points."""
        rows, channels = points.shape
        return points.new_empty(rows, num_functions * channels)

    def arrange(self, points: Tensor, num_functions: int) -> Arrangement:
        """Return the arrangement of a block of points and its maps."""
        rows, channels = points.shape
        return Arrangement(rows, channels, num_functions, channels, True)

    def pack(self, weight: Tensor, num_functions: int, folds: bool) -> Tensor:
        """Return the weights of functions of x in the order of the maps."""
        return split_weight(weight, num_functions, folds)[:, folds:].flatten(1, 2)

    def unpack(self, packed: Tensor, num_functions: int) -> Tensor:
        """Return packed weights as (O, K, C)."""
        return torch.unflatten(packed, 1, (num_functions, -1))

    def map_level(self, level: float, weight: Tensor, points: Tensor) -> Tensor:
        """Return the results for the map of the level; weights (O, 1) -> (O,)."""
        return level * weight[:, 0]

    def differentiate_level(self, level: float, grad: Tensor, weight: Tensor, points: Tensor) -> Tensor:
        """Return the gradient of the weights of `map_level`."""
        return level * grad.sum(0).unsqueeze(1)

    def apply(self, maps: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
        """Return the results of a block of points."""
        return F.linear(maps, packed, bias)

    def apply_plainly(
        self, values: Tensor, weight: Tensor, bias: Tensor | None, level: float | None
    ) -> Tensor:
        """Return the results for all values (..., C, K), in ordinary operations."""
        if level is None:
            return F.linear(values.flatten(-2), weight, bias)
        by_function = split_weight(weight, values.shape[-1], True)  # (O, K', C)
        shift = level * by_function[:, 0].sum(1)
        bias = shift if bias is None else bias + shift
        return F.linear(values.flatten(-2), by_function[:, 1:].transpose(1, 2).flatten(1), bias)

    def differentiate(
        self, grad: Tensor, maps: Tensor, packed: Tensor, wanted: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients of the maps, in their memory, and of the packed weights."""
        to_packed = grad.t() @ maps if wanted[1] else None
        return torch.mm(grad, packed, out=maps) if wanted[0] else None, to_packed


@dataclass(frozen=True)
class Convolution:
    """Convolution of (B, C, *S).

    Maps are (B, C K, *S), channel-major. For a channels-last input, memory is (B, *S, K C), function-major.

    Args:
        stride: Stride for each axis of space.
        padding: Padding with zeros on both sides of each axis.
        dilation: Dilation for each axis.
        groups: Number of groups, G.
        channels_last: True if the channels are the inner axis in memory; G is 1 then.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    channels_last: bool = False
    channel_dim: ClassVar[int] = 1

    @property
    def keeps_order(self) -> bool:
        """Return True if packed weights are the weights, without a folded function."""
        return not self.channels_last

    def order(self, x: Tensor) -> Tensor:
        """Return x as contiguous points, (B, C, *S) or (B, *S, C)."""
        return (x.movedim(1, -1) if self.channels_last else x).contiguous()

    def restore(self, points: Tensor, x: Tensor | None = None) -> Tensor:
        """Return points or maps in the usual order of axes, (B, C, *S)."""
        return points.movedim(-1, 1) if self.channels_last else points

    def shape(self, y: Tensor, x: Tensor) -> Tensor:
        """Return results (B, O, *S')."""
        return y

    def flatten(self, grad: Tensor) -> Tensor:
        """Return the gradient of the results, (B, O, *S')."""
        return grad

    def allocate(self, points: Tensor, num_functions: int) -> Tensor:
        """Return a tensor for the maps of a block of points."""
        shape = list(points.shape)
        shape[-1 if self.channels_last else 1] *= num_functions
        return points.new_empty(shape)

    def arrange(self, points: Tensor, num_functions: int) -> Arrangement:
        """Return the arrangement of a block of points and its maps."""
        if self.channels_last:
            channels = points.shape[-1]
            return Arrangement(points.numel() // channels, channels, num_functions, channels, True)
        batch, channels, *space = points.shape
        return Arrangement(batch * channels, math.prod(space), num_functions, channels, False)

    def pack(self, weight: Tensor, num_functions: int, folds: bool) -> Tensor:
        """Return the weights of functions of x in the order of the maps."""
        if not folds and self.keeps_order:
            return weight
        by_function = split_weight(weight, num_functions, folds)[:, folds:]  # (O, K, C/G, *k)
        return (by_function if self.channels_last else by_function.transpose(1, 2)).flatten(1, 2)

    def unpack(self, packed: Tensor, num_functions: int) -> Tensor:
        """Return packed weights as (O, K, C/G, *k)."""
        if self.channels_last:
            return torch.unflatten(packed, 1, (num_functions, -1))
        return torch.unflatten(packed, 1, (-1, num_functions)).transpose(1, 2)

    def map_level(self, level: float, weight: Tensor, points: Tensor) -> Tensor:
        """Return the results for the map of the level; weights (O, 1, *k) -> (1, O, *S')."""
        return self._convolve(self._fill(level, points, weight), weight, None, 1)

    def differentiate_level(self, level: float, grad: Tensor, weight: Tensor, points: Tensor) -> Tensor:
        """Return the gradient of the weights of `map_level`."""
        ones = self._fill(level, points, weight)
        total = grad.sum(0, keepdim=True)
        found = torch.ops.aten.convolution_backward.default(
            total, ones, weight, None, *self._geometry(1), (False, True, False)
        )
        return cast(Tensor, found[1])

    def _fill(self, level: float, points: Tensor, like: Tensor) -> Tensor:
        return like.new_full((1, 1, *self.restore(points).shape[2:]), level)

    def apply(self, maps: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
        """Return the results of a block of samples."""
        return self._convolve(self.restore(maps), packed, bias, self.groups)

    def apply_plainly(
        self, values: Tensor, weight: Tensor, bias: Tensor | None, level: float | None
    ) -> Tensor:
        """Return the results for all values (B, C, K, *S), in ordinary operations."""
        maps = values.flatten(1, 2)
        if level is None:
            return self._convolve(maps, weight, bias, self.groups)
        by_function = split_weight(weight, values.shape[2], True)  # (O, K', C/G, *k)
        varying, constant = by_function[:, 1:].transpose(1, 2).flatten(1, 2), by_function[:, 0].sum(1, True)
        shift = self._convolve(maps.new_full((1, 1, *maps.shape[2:]), level), constant, None, 1)
        return self._convolve(maps, varying, bias, self.groups) + shift

    def differentiate(
        self, grad: Tensor, maps: Tensor, packed: Tensor, wanted: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients of the maps, arranged as those, and of the packed weights."""
        to_maps, to_weight, _ = torch.ops.aten.convolution_backward.default(
            grad, self.restore(maps), packed, None, *self._geometry(self.groups), (*wanted, False)
        )
        return self.order(to_maps) if wanted[0] else None, to_weight

    def _geometry(self, groups: int) -> tuple[Any, ...]:
        return self.stride, self.padding, self.dilation, False, (0,) * len(self.stride), groups

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
        convolve = _CONV[len(self.stride)]
        return convolve(x, weight, bias, self.stride, self.padding, self.dilation, groups)


Contraction: TypeAlias = MatrixProduct | Convolution


def split_weight(weight: Tensor, num_functions: int, folds: bool) -> Tensor:
    """Return channel-major weights by function, (O, K', C/G, *k), the constant one first if it is folded."""
    return torch.unflatten(weight, 1, (-1, num_functions + int(folds))).transpose(1, 2)
