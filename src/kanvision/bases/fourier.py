"""Fourier series. Shapes: C channels, K basis functions, F frequencies."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kanvision.expansion.define import Definition, Scalar, Vocabulary

from .base import Basis, Squash

__all__ = ["FourierBasis"]


def _fourier(m: Vocabulary, x: Scalar, frequencies: Sequence[Scalar]) -> list[Scalar]:
    """Return the cosines, then the sines."""
    angles = [frequency * x for frequency in frequencies]
    return [*(m.cos(angle) for angle in angles), *(m.sin(angle) for angle in angles)]


class FourierBasis(Basis):
    """Functions cos(x) ... cos(F x), sin(x) ... sin(F x), K = 2 F functions of period 2 pi.

    FourierKAN without the constant, which a bias replaces. The functions are defined on the whole line; the
    result for infinite inputs is NaN.

    Args:
        num_frequencies: Number of frequencies, F.
        squash: Domain policy; None, "tanh" or "sigmoid".
        num_channels: Not used: the functions have no parameters.

    Raises:
        ValueError: There is no frequency.
    """

    name = "fourier"
    frequencies: Tensor

    def __init__(
        self, num_frequencies: int = 4, *, squash: Squash | None = None, num_channels: int | None = None
    ) -> None:
        if num_frequencies < 1:
            raise ValueError(f"num_frequencies={num_frequencies} must be at least 1")
        super().__init__(num_basis=2 * num_frequencies, domain=None, squash=squash, num_channels=num_channels)
        self._constant("frequencies", num_frequencies)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Set the frequencies 1 ... F."""
        self.frequencies.copy_(torch.arange(1, self.frequencies.numel() + 1, device="cpu"))

    def define(self, constant: bool = True) -> tuple[Definition, tuple[Tensor, ...]]:
        """Return the definition of the cosines and the sines, and the frequencies."""
        return Definition(_fourier, sizes=(self.frequencies.numel(),)), (self.frequencies,)
