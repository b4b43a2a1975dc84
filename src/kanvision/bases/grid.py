"""Bases on a grid that can follow the data. Shapes: K basis functions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .base import Basis

__all__ = ["GridBasis"]


class GridBasis(Basis):
    """Functions on an equidistant grid, which can be moved, extended and refined.

    All channels share one grid, so that its functions keep their closed forms. It is stored in buffers, which
    are part of the state dict; `domain` is read from them whenever they change or are loaded, and is
    therefore unchanged by saving and loading.

    Methods that change K return the map of the weights that keeps the function; the caller applies it.
    A subclass implements `_set_buffers`, `_found`, `_support`, and `_extended` and `refine` if it can.
    """

    domain: tuple[float, float]

    @property
    def step(self) -> float:
        """Return the distance between neighboring functions."""
        raise NotImplementedError

    @property
    def support(self) -> tuple[float, float]:
        """Return the interval outside which the functions are 0, or to which x is clamped."""
        return self._support() if self.squash is None else self.domain

    def _support(self) -> tuple[float, float]:
        raise NotImplementedError

    def _set_buffers(self, low: float, high: float) -> None:
        """Fill the buffers for this domain."""
        raise NotImplementedError

    def _found(self) -> tuple[float, float]:
        """Return the domain of the buffers, which `reset_parameters` keeps from now on.

        Raises:
            ValueError: The buffers are no grid of this class.
        """
        raise NotImplementedError

    def _extended(self, left: int, right: int) -> None:
        """Return the buffers of a grid with more functions at its ends."""
        raise NotImplementedError

    @torch.no_grad()
    def move(self, low: float, high: float) -> None:
        """Stretch and shift the grid to another domain.

        Raises:
            ValueError: The pair is not increasing.
        """
        if not low < high:
            raise ValueError(f"the domain must be an increasing pair, got {(low, high)}")
        self._set_buffers(float(low), float(high))
        self.domain = self._found()

    @torch.no_grad()
    def extend(self, left: int, right: int) -> Tensor:
        """Add functions at the ends, `step` apart; the others stay unchanged.

        Args:
            left: Number of functions before the first one.
            right: Number of functions after the last one.

        Returns:
            Map of the weights (K', K), 0 for new functions, so that the function is unchanged.

        Raises:
            ValueError: A number is negative, or the basis has a squash, which would follow the domain.
        """
        for key, value in (("left", left), ("right", right)):
            if value < 0:
                raise ValueError(f"{key}={value} must be at least 0")
        if self.squash is not None:
            raise ValueError(
                f"squash={self.squash!r} maps what lies outside onto the domain, so that a wider domain "
                "would change the function; only a basis with squash=None can be extended"
            )
        before = self.num_basis
        self._extended(left, right)
        self.num_basis = before + left + right
        self.domain = self._found()
        weights = torch.zeros(self.num_basis, before, dtype=torch.float64)
        weights[left : left + before] = torch.eye(before, dtype=torch.float64)
        return weights

    def refine(self, factor: int) -> Tensor:
        """Refine the grid by `factor` on the same domain.

        Returns:
            Map of the weights (K', K), which keeps the function on the domain.

        Raises:
            ValueError: Finer functions cannot represent the current ones; B-splines on equidistant knots can.
        """
        raise ValueError(
            f"basis {self.name!r} cannot be refined: sums of narrower functions of its kind do not make the "
            "wider ones; B-splines at equidistant knots can be refined, and other grids extended"
        )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        before = {name: buffer.clone() for name, buffer in self._buffers.items() if buffer is not None}
        super()._load_from_state_dict(state_dict, prefix, *args)
        after = {name: buffer for name, buffer in self._buffers.items() if buffer is not None}
        if any(buffer.is_meta for buffer in after.values()):
            return
        if all(
            not before[name].is_meta and torch.equal(before[name].to(buffer), buffer)
            for name, buffer in after.items()
        ):
            return  # nothing moved; the domain keeps the digits that its buffers have rounded away
        try:
            self.domain = self._found()
        except ValueError as error:
            args[-1].append(f"{prefix.removesuffix('.')}: {error}")
