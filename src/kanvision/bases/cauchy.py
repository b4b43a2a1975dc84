"""Cauchy activation as a basis. Shapes: C channels, K basis functions, P poles."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kanvision.expansion.define import Definition, Scalar, Vocabulary

from .base import Basis, Squash
from .wavelet import invert_scale

__all__ = ["CauchyBasis"]

# Bounded arguments keep inf / inf out; all functions are below 1e-14 here.
_FAR = 1e15


def _poles(m: Vocabulary, x: Scalar, widths: Sequence[Scalar]) -> list[Scalar]:
    """Return 2 u / (1 + u^2) for all poles, then 1 / (1 + u^2), u = x / d."""
    arguments = [m.clamp(x * invert_scale(m, width), -_FAR, _FAR) for width in widths]
    even = [1 / (1 + u * u) for u in arguments]
    return [*(2 * u * q for u, q in zip(arguments, even, strict=True)), *even]


class CauchyBasis(Basis):
    """Functions 2 d x / (x^2 + d^2) and d^2 / (x^2 + d^2) of P widths d; K = 2 P, odd functions first.

    XNet, Li, Xia and Zhang 2024 (arXiv 2409.19221), has the activation (l1 x + l2) / (x^2 + d^2) with l1, l2
    and d learned: two functions of x with the coefficients l1 and l2. The factors 2 d and d^2 scale both to a
    maximum of 1 at any width; the weights absorb them. Widths belong to the input channel: learnable
    parameters (C, P) when `num_channels` is given, else fixed buffers (1, P). The effective width is d =
    sqrt(width^2 + 1e-6), so that no pole reaches the real line. At infinity the functions decay as 1 / x and
    1 / x^2.

    Args:
        num_poles: Number of poles, P. One pole starts at width 1, as published; several start evenly on a
            logarithmic scale from 1/2 to 2.
        squash: Domain policy; None, "tanh" or "sigmoid".
        num_channels: Number of channels, C, for learnable widths.

    Raises:
        ValueError: There is no pole.
    """

    name = "cauchy"
    learns_per_channel = True
    width: Tensor

    def __init__(
        self, num_poles: int = 1, *, squash: Squash | None = None, num_channels: int | None = None
    ) -> None:
        if num_poles < 1:
            raise ValueError(f"num_poles={num_poles} must be at least 1")
        super().__init__(num_basis=2 * num_poles, domain=None, squash=squash, num_channels=num_channels)
        self._own("width", size=num_poles)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialize the widths."""
        reach = 1.0 if self.num_basis > 2 else 0.0
        num_poles = self.num_basis // 2
        self.width.copy_(torch.linspace(-reach, reach, num_poles, dtype=torch.float64, device="cpu").exp2())

    def define(self, constant: bool = True) -> tuple[Definition, tuple[Tensor, ...]]:
        """Return the definition of the functions, and the widths."""
        return Definition(_poles, sizes=(self.num_basis // 2,)), (self.width,)
