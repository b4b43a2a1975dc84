"""Wavelets. Shapes: C channels, K basis functions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kanvision.expansion.define import Definition, Scalar, Vocabulary
from kanvision.ops.wavelet import WAVELETS

from .base import Basis, Squash

__all__ = ["WaveletBasis", "define_wavelets", "invert_scale"]

_MIN_SCALE = 1e-3


def invert_scale(m: Vocabulary, scale: Scalar) -> Scalar:
    """Return 1 / sqrt(scale^2 + 1e-6), which is finite and positive for any scale."""
    return 1 / m.sqrt(scale * scale + _MIN_SCALE**2)


def _wavelets(
    m: Vocabulary, x: Scalar, shifts: Sequence[Scalar], scales: Sequence[Scalar], kind: str
) -> list[Scalar]:
    """Return psi((x - shift) / s)."""
    bound = WAVELETS[kind].bound
    arguments = [
        m.clamp((x - shift) * invert_scale(m, scale), -bound, bound)
        for shift, scale in zip(shifts, scales, strict=True)
    ]
    return [WAVELETS[kind].value(m, z) for z in arguments]


def define_wavelets(kind: str, num_wavelets: int) -> Definition:
    """Return the definition of shifted and scaled copies of a wavelet; inputs are shifts and scales."""
    return Definition(_wavelets, sizes=(num_wavelets,) * 2, settings=(kind,))


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

    def define(self, constant: bool = True) -> tuple[Definition, tuple[Tensor, ...]]:
        """Return the definition of the wavelets, the shifts and the scales."""
        return define_wavelets(self.kind, self.num_basis), (self.shift, self.scale)
