"""Fourier series. Shapes: C channels, K basis functions, F frequencies."""

from __future__ import annotations

import torch
from torch import Tensor

from kanvision.ops.fourier import fourier

from .base import Basis, Squash

__all__ = ["FourierBasis"]


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

    def expand(self, x: Tensor, dim: int) -> Tensor:
        """Return the values of the cosines, then of the sines."""
        return fourier(x, self.frequencies.to(x.dtype), dim)

    def expand_flops(self) -> int:
        """Count an angle for each frequency, its cosine and its sine."""
        return self.frequencies.numel() + self.num_basis
