"""Wavelets. Shapes: C channels, K basis functions."""

from __future__ import annotations

import torch
from torch import Tensor

from kanvision.ops.wavelet import WAVELETS, wavelets

from .base import Basis, Squash

__all__ = ["WaveletBasis", "positive_rate"]

_MIN_SCALE = 1e-3


class WaveletBasis(Basis):
    """Shifted and scaled copies of one wavelet, phi_j = psi((x - shift_j) / s_j), K = num_wavelets.

    Wav-KAN, Bozorgasl and Chen 2024 (arXiv 2405.12832), has a shift and a scale for every pair of input and
    output, which is not an expansion of the input and needs O times the memory. Here each input channel has
    them: learnable parameters (C, K) when `num_channels` is given, else fixed buffers (1, K). The
    effective scale is s = sqrt(scale^2 + 1e-6). All wavelets decay to 0.

    Args:
        kind: "mexican_hat", "morlet", "dog", "meyer" or "shannon"; formulas at
            `kanvision.ops.wavelet.WAVELETS`.
        num_wavelets: Number of wavelets, K. One starts at shift 0, several start evenly on [-2, 2]; all start
            at scale 1.
        squash: Domain policy; None, "tanh" or "sigmoid".
        num_channels: Number of channels, C, for learnable shifts and scales.

    Raises:
        ValueError: The kind is not known or there is no wavelet.
    """

    name = "wavelet"
    learns_per_channel = True
    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        kind: str = "mexican_hat",
        num_wavelets: int = 1,
        *,
        squash: Squash | None = None,
        num_channels: int | None = None,
    ) -> None:
        if kind not in WAVELETS:
            raise ValueError(f"kind={kind!r} is not known; legal values: {', '.join(WAVELETS)}")
        if num_wavelets < 1:
            raise ValueError(f"num_wavelets={num_wavelets} must be at least 1")
        super().__init__(num_basis=num_wavelets, domain=None, squash=squash, num_channels=num_channels)
        self.kind = kind
        self._own("shift", "scale")
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialize shifts and scales."""
        reach = 2.0 if self.num_basis > 1 else 0.0
        self.shift.copy_(torch.linspace(-reach, reach, self.num_basis, device="cpu"))
        self.scale.fill_(1.0)

    def expand(self, x: Tensor, dim: int) -> Tensor:
        """Return the values of the wavelets."""
        shift, scale = (self.per_channel(values, x, dim) for values in (self.shift, self.scale))
        return wavelets(x, shift, positive_rate(scale), self.kind, dim)

    def expand_flops(self) -> int:
        """Count the shifted, scaled and bounded argument and the wavelet for each function."""
        return self.num_basis * (4 + WAVELETS[self.kind].flops)


def positive_rate(scale: Tensor) -> Tensor:
    """Return 1 / sqrt(scale^2 + 1e-6), which is finite and positive for any scale."""
    return (scale.square() + _MIN_SCALE**2).rsqrt()
