"""Sines of learned frequency. Shapes: C channels, K basis functions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kanvision.expansion.define import Definition, Scalar, Vocabulary

from .base import Basis, Squash

__all__ = ["SineBasis"]


def _sines(m: Vocabulary, x: Scalar, frequencies: Sequence[Scalar], phases: Sequence[Scalar]) -> list[Scalar]:
    return [m.sin(w * x + p) for w, p in zip(frequencies, phases, strict=True)]


class SineBasis(Basis):
    """Functions phi_k = sin(w_k x + p_k), k = 1 ... K, with learned frequencies w and fixed phases p.

    SineKAN, Reinhardt, Dinesh and Gleyzer 2024 (arXiv 2407.04149). As published, one set of frequencies
    serves all channels and starts at w_k = k / (K + 1). The published phases differ from input to input,
    p_ik = k / (K + 1) + pi (i - 1) / (C - 1) with a fitted correction that grows with K; they make a
    function depend on the index of its channel, which does not suit convolutions. Here all channels have
    p_k = pi (k - 1) / K, half a period, after which sines only change their sign. The result for infinite
    inputs is NaN.

    Args:
        num_frequencies: Number of frequencies, K.
        frequency_step: Initial distance between frequencies; None is 1 / (K + 1), and 1 is that of the first
            layer of the published networks.
        per_channel: Learn a set of frequencies (C, K) for each channel instead of one (1, K) for all; needs
            `num_channels`, without which there is one set.
        squash: Domain policy; None, "tanh" or "sigmoid".
        num_channels: Number of channels, C, for `per_channel`.

    Raises:
        ValueError: There is no frequency or the step is not positive.
    """

    name = "sine"
    learns_per_channel = True
    kan_parameters = ("frequency",)
    phase: Tensor

    def __init__(
        self,
        num_frequencies: int = 8,
        frequency_step: float | None = None,
        per_channel: bool = False,
        *,
        squash: Squash | None = None,
        num_channels: int | None = None,
    ) -> None:
        if num_frequencies < 1:
            raise ValueError(f"num_frequencies={num_frequencies} must be at least 1")
        if frequency_step is not None and not frequency_step > 0:
            raise ValueError(f"frequency_step={frequency_step} must be positive")
        super().__init__(
            num_basis=num_frequencies,
            domain=None,
            squash=squash,
            num_channels=num_channels if per_channel else None,
        )
        self.frequency_step = 1 / (num_frequencies + 1) if frequency_step is None else frequency_step
        self.frequency = nn.Parameter(torch.empty(self.num_channels or 1, num_frequencies))
        self._constant("phase", 1, num_frequencies)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialize frequencies and phases."""
        steps = torch.arange(self.num_basis, dtype=torch.float64, device="cpu")
        self.frequency.copy_(self.frequency_step * (steps + 1))
        self.phase.copy_(math.pi / self.num_basis * steps)

    def define(self, constant: bool = True) -> tuple[Definition, tuple[Tensor, ...]]:
        """Return the definition of the sines, the frequencies and the phases."""
        return Definition(_sines, sizes=(self.num_basis,) * 2), (self.frequency, self.phase)
