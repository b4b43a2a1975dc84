"""Statistics of the inputs of basis functions, over batches and processes.

Counts are integers, so that their sums are equal on every process and in any order.

Shapes: C channels, N values of a channel, M bins.
"""

from __future__ import annotations

import torch
from torch import Tensor, distributed

__all__ = ["InputHistogram", "InputRange"]

_NUM_HALVES = 2**15  # bit patterns of bfloat16 without its sign


class InputRange:
    """Range, quantiles and share outside an interval of the values of all channels together.

    Quantiles are computed from counts of the values truncated to bfloat16, with one bin for each of its
    65,536 bit patterns: no range is needed in advance, and bins are never wider than 2^-7 (0.8 %) of the
    value.

    Args:
        domain: Interval of the values that count as inside.
        device: Device of the counts.
    """

    def __init__(self, domain: tuple[float, float], device: torch.device | str | None = None) -> None:
        self.domain = domain
        self._counts = torch.zeros(2 * _NUM_HALVES, dtype=torch.int64, device=device)
        self._outside = torch.zeros(2, dtype=torch.int64, device=device)  # outside, not finite
        self._ends = torch.full((2,), -torch.inf, device=device)  # -min, max

    @torch.no_grad()
    def add(self, x: Tensor) -> None:
        """Add values of any shape; non-finite values are counted separately."""
        finite = x[x.isfinite()].float()
        low, high = self.domain
        outside = ((finite < low) | (finite > high)).sum()
        self._outside += torch.stack([outside, x.numel() - outside.new_tensor(finite.numel())])
        if finite.numel():
            self._ends = torch.maximum(self._ends, torch.stack([-finite.min(), finite.max()]))
            half = finite.contiguous().view(torch.int32) >> 16  # sign and the upper bits, in two's complement
            index = torch.where(half >= 0, half + _NUM_HALVES, -1 - half)
            self._counts += torch.bincount(index, minlength=2 * _NUM_HALVES)

    def all_reduce(self) -> None:
        """Add the counts of the other processes; a collective call."""
        if distributed.is_available() and distributed.is_initialized():
            for counts in (self._counts, self._outside):
                distributed.all_reduce(counts)
            distributed.all_reduce(self._ends, op=distributed.ReduceOp.MAX)

    @property
    def num_values(self) -> int:
        """Return the number of finite values."""
        return int(self._counts.sum())

    @property
    def num_not_finite(self) -> int:
        """Return the number of NaN and infinite values."""
        return int(self._outside[1])

    @property
    def ends(self) -> tuple[float, float]:
        """Return the smallest and the largest value, in float32."""
        return -float(self._ends[0]), float(self._ends[1])

    @property
    def share_outside(self) -> float:
        """Return the share of the finite values outside the domain; 0 without values."""
        return int(self._outside[0]) / max(1, self.num_values)

    def quantiles(self, share: float) -> tuple[float, float]:
        """Return an interval that excludes at most this share of the values at either end.

        Raises:
            ValueError: There are no values.
        """
        count = self.num_values
        if not count:
            raise ValueError("no finite values have been counted")
        below = self._counts.cumsum(0)
        first = int((below <= share * count).sum())
        last = int((below < (1 - share) * count).sum())
        smallest, largest = self.ends
        return max(smallest, _edges(first)[0]), min(largest, _edges(last)[1])


def _edges(index: int) -> tuple[float, float]:
    """Return the lower and upper end of a bin of `InputRange`."""

    def value(half: int) -> float:
        return float(torch.tensor(half << 16, dtype=torch.int32).view(torch.float32))

    if index >= _NUM_HALVES:
        half = index - _NUM_HALVES
        return value(half), value(half + 1)
    half = _NUM_HALVES - 1 - index
    return -value(half + 1), -value(half)


class InputHistogram:
    """Histogram of the values of each channel; values beyond the ends count in the outermost bins.

    Functions of one variable need no more: sums over data become sums over bin centers.

    Args:
        edges: (M + 1,) increasing ends of the bins.
        num_channels: Number of channels, C.
        device: Device of the counts.
    """

    def __init__(self, edges: Tensor, num_channels: int, device: torch.device | str | None = None) -> None:
        self.centers = (edges[1:] + edges[:-1]) / 2
        self._inner = edges[1:-1].float().to(device)
        self.counts = torch.zeros(num_channels, len(edges) - 1, dtype=torch.int64, device=device)

    @torch.no_grad()
    def add(self, x: Tensor, channel_dim: int = -1) -> None:
        """Add values with the channels along an axis; non-finite values are ignored."""
        num_channels, num_bins = self.counts.shape
        values = x.movedim(channel_dim, -1).reshape(-1, num_channels).float().contiguous()  # (N, C)
        index = torch.bucketize(values, self._inner, right=True)
        index += torch.arange(num_channels, device=x.device) * num_bins
        index = index[values.isfinite()]
        self.counts += torch.bincount(index, minlength=self.counts.numel()).view_as(self.counts)

    def all_reduce(self) -> None:
        """Add the counts of the other processes; a collective call."""
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(self.counts)
