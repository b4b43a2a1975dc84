"""Radial basis functions. Shapes: C channels, K basis functions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from kanvision.expansion.define import Definition, Formula, Scalar, Vocabulary

from .base import Squash
from .grid import GridBasis

__all__ = ["RBFBasis", "RSWAFBasis", "RadialBasis"]

# So many widths from its center every function is below 1e-6.
_REACH = 8.0
# So many widths from its center a Gaussian is 1e-38, where exp would underflow and vector code is slow.
_FAR = math.sqrt(87.0)


def _gaussian(m: Vocabulary, x: Scalar, centers: Sequence[Scalar], rate: tuple[Scalar]) -> list[Scalar]:
    """Return exp(-u^2), u = rate (x - c)."""
    distances = [m.clamp((x - center) * rate[0], -_FAR, _FAR) for center in centers]
    return [m.exp(-(u * u)) for u in distances]


def _sech2(m: Vocabulary, x: Scalar, centers: Sequence[Scalar], rate: tuple[Scalar]) -> list[Scalar]:
    """Return 1 - tanh(u)^2 = 1 / cosh(u)^2, u = rate (x - c)."""
    heights = [m.tanh((x - center) * rate[0]) for center in centers]
    return [1 - height * height for height in heights]


_PROFILES: dict[str, Formula] = {"gaussian": _gaussian, "sech2": _sech2}


class RadialBasis(GridBasis):
    """Functions phi_j = profile((x - c_j) / width) on equidistant centers, K = num_centers.

    The functions decay to 0 outside the range.

    Args:
        num_centers: Number of centers, K, at least 2 unless `width` is given.
        grid_range: First and last center, which bound the domain.
        width: Width of every function; None is the distance between centers.
        squash: Domain policy, see `Basis`.
        num_channels: Not used: the functions have no parameters.

    Raises:
        ValueError: There are too few centers or the width is not positive.
    """

    profile: ClassVar[str]
    centers: Tensor
    rate: Tensor

    def __init__(
        self,
        num_centers: int,
        grid_range: tuple[float, float],
        width: float | None,
        *,
        squash: Squash | None,
        num_channels: int | None,
    ) -> None:
        low, high = grid_range
        if num_centers < (2 if width is None else 1):
            raise ValueError(f"num_centers={num_centers} must be at least 2, or 1 with a width")
        if width is not None and not width > 0:
            raise ValueError(f"width={width} must be positive")
        super().__init__(
            num_basis=num_centers, domain=(float(low), float(high)), squash=squash, num_channels=num_channels
        )
        self.width = (high - low) / (num_centers - 1) if width is None else width
        self._alone = (high - low) / self.width  # what the domain of a single function is, in widths
        self._points = _equidistant(low, high, num_centers)
        self._constant("centers", num_centers)
        self._constant("rate")
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Fill the buffers."""
        self.centers.copy_(torch.tensor(self._points, dtype=torch.float64, device="cpu"))
        self.rate.fill_(1 / self.width)

    @property
    def step(self) -> float:
        """Return the distance between centers, or the width if there is one center."""
        low, high = self.domain
        return (high - low) / (self.num_basis - 1) if self.num_basis > 1 else self.width

    def _support(self) -> tuple[float, float]:
        return self._points[0] - _REACH * self.width, self._points[-1] + _REACH * self.width

    def _set_buffers(self, low: float, high: float) -> None:
        first, last = self.domain
        self.width *= (high - low) / (last - first)
        self._points = _equidistant(low, high, self.num_basis)
        self.reset_parameters()

    def _found(self) -> tuple[float, float]:
        if not self.centers.is_meta:
            self._points = self.centers.tolist()
            self.width = 1 / float(self.rate)
        first, last = self._points[0], self._points[-1]
        if self.num_basis == 1:
            return first - self._alone * self.width / 2, first + self._alone * self.width / 2
        step = (last - first) / (self.num_basis - 1)
        gaps = [right - left for left, right in itertools.pairwise(self._points)]
        if not step > 0 or any(
            abs(gap - step) > 1e-3 * step + 1e-6 * max(abs(first), abs(last)) for gap in gaps
        ):
            raise ValueError(f"centers={self._points} are not equidistant and increasing")
        return first, last

    def _extended(self, left: int, right: int) -> None:
        if self.num_basis == 1:
            raise ValueError("a single function has no neighbors whose distance an extension could keep")
        low, high, step = self._points[0], self._points[-1], self.step
        count = self.num_basis + left + right
        self._points = _equidistant(low - left * step, high + right * step, count)
        self.centers = self.centers.new_empty(count)
        self.reset_parameters()

    def define(self, constant: bool = True) -> tuple[Definition, tuple[Tensor, ...]]:
        """Return the definition of the functions, the centers and 1 / width."""
        definition = Definition(_PROFILES[self.profile], sizes=(self.num_basis, 1))
        return definition, (self.centers, self.rate)


class RBFBasis(RadialBasis):
    """Gaussians, phi_j = exp(-((x - c_j) / width)^2).

    FastKAN, Li 2024, "Kolmogorov-Arnold Networks are Radial Basis Function Networks" (arXiv 2405.06721).

    Args:
        num_centers: Number of centers, K, at least 2 unless `width` is given.
        grid_range: First and last center, which bound the domain.
        width: Width of every function; the distance between centers by default.
        squash: Domain policy, see `Basis`.
        num_channels: Not used: the functions have no parameters.

    Raises:
        ValueError: There are too few centers or the width is not positive.
    """

    name = "rbf"
    profile = "gaussian"

    def __init__(
        self,
        num_centers: int = 8,
        grid_range: tuple[float, float] = (-2.0, 2.0),
        width: float | None = None,
        *,
        squash: Squash | None = None,
        num_channels: int | None = None,
    ) -> None:
        super().__init__(num_centers, grid_range, width, squash=squash, num_channels=num_channels)


class RSWAFBasis(RadialBasis):
    """Reflectional switch functions, phi_j = 1 - tanh((x - c_j) / width)^2, the square of 1 / cosh.

    FasterKAN (Delis 2024), whose width is 0.33 for any distance between centers; MLP-KAN (arXiv
    2410.03027) builds its experts on them.

    Args:
        num_centers: Number of centers, K, at least 2 unless `width` is given.
        grid_range: First and last center, which bound the domain.
        width: Width of every function; None is the distance between centers.
        squash: Domain policy, see `Basis`.
        num_channels: Not used: the functions have no parameters.

    Raises:
        ValueError: There are too few centers or the width is not positive.
    """

    name = "rswaf"
    profile = "sech2"

    def __init__(
        self,
        num_centers: int = 8,
        grid_range: tuple[float, float] = (-2.0, 2.0),
        width: float | None = 0.33,
        *,
        squash: Squash | None = None,
        num_channels: int | None = None,
    ) -> None:
        super().__init__(num_centers, grid_range, width, squash=squash, num_channels=num_channels)


def _equidistant(low: float, high: float, count: int) -> list[float]:
    """Return `count` points from `low` to `high`, or the midpoint for one point."""
    if count == 1:
        return [(low + high) / 2]
    return [((count - 1 - i) * low + i * high) / (count - 1) for i in range(count)]
