"""Dropout and noise by short name. Shapes: B batch, C channels, *S space."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kanvision.spec.models import DROP_KINDS

__all__ = ["NoiseInjection", "create_dropout"]

_CHANNEL = {0: nn.Dropout, 1: nn.Dropout1d, 2: nn.Dropout2d, 3: nn.Dropout3d}


class NoiseInjection(nn.Module):
    """Noise on random values: x + alpha m e std_c with m ~ Bernoulli(p), e ~ N(0, 1) for each value.

    Drokin 2024, arXiv 2407.01092: an alternative to dropout that removes nothing. std_c is the standard
    deviation of a channel over batch and space, without a gradient. Evaluation returns x.

    Args:
        p: Share of the values with noise.
        alpha: Size of the noise in standard deviations.
        channel_dim: Axis of the channels.
    """

    def __init__(self, p: float = 0.05, alpha: float = 0.05, channel_dim: int = 1) -> None:
        super().__init__()
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"p={p} must be in [0, 1]")
        self.p = p
        self.alpha = alpha
        self.channel_dim = channel_dim

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, *S) to (B, C, *S)."""
        if not self.training or self.p == 0.0 or x.numel() == 0:
            return x
        axes = [axis for axis in range(x.ndim) if axis != self.channel_dim % x.ndim]
        # For a single value correction 0 returns 0, and 1 would return NaN.
        spread = x.detach().std(dim=axes, keepdim=True, correction=0)
        return x + torch.randn_like(x) * torch.empty_like(x).bernoulli_(self.p) * (self.alpha * spread)

    def extra_repr(self) -> str:
        """Return rate and size for `repr`."""
        return f"p={self.p}, alpha={self.alpha}"


def create_dropout(kind: str, rate: float, ndim: int) -> nn.Module:
    """Build a dropout layer.

    Args:
        kind: "channel" (whole maps), "element" (single values) or "noise" (`NoiseInjection`).
        rate: Share of dropped or noisy values.
        ndim: Number of space axes of (B, C, *S); 0 means (..., C), where a channel is one value.

    Raises:
        ValueError: The kind is not known or the rate is not in [0, 1).
    """
    if kind not in DROP_KINDS:
        raise ValueError(f"drop_kind={kind!r} is not known; legal values: {', '.join(DROP_KINDS)}")
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"drop_rate={rate} must be in [0, 1)")
    if kind == "noise":
        return NoiseInjection(rate, channel_dim=1 if ndim else -1)
    layers: dict[str, type[nn.Module]] = {"channel": _CHANNEL[ndim], "element": nn.Dropout}
    return layers[kind](rate)
