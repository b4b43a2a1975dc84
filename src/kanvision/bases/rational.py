"""Rational functions as a basis. Shapes: C channels, K basis functions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kanvision.expansion.define import Definition, Scalar, Vocabulary
from kanvision.expansion.elementary import sum_powers

from .base import Basis, Squash

__all__ = ["RationalBasis"]

# Largest power of x that is ever computed; its square times the derivative of a denominator is finite.
_LARGEST_POWER = 1e16


def _fractions(m: Vocabulary, x: Scalar, denominator: Sequence[Scalar], degree: int) -> list[Scalar]:
    """Return x^j / (1 + |b_1 x + ... + b_n x^n|), j = 0 ... degree."""
    far = _LARGEST_POWER ** (1 / max(degree, len(denominator)))
    x = m.clamp(x, -far, far)
    values = [1 / (1 + m.abs(sum_powers(denominator, x) * x))]
    for _ in range(degree):
        values.append(values[-1] * x)
    return values


class RationalBasis(Basis):
    """Functions phi_j = x^j / (1 + |b_1 x + ... + b_n x^n|), j = 0 ... m; K = m + 1.

    Pade activations (Molina, Schramowski and Kersting 2020, arXiv 1907.06732) of every pair of input and
    output, with denominators of the inputs, which have no real poles; the coefficients of the numerators are
    the weights of the layer. The b are learnable parameters (C, n) when `num_channels` is
    given, else fixed buffers (1, n). They start at Q = 1 + |x|^n, b = (0, ..., 0, 1), where no function
    exceeds 1 for m <= n; at b = 0 the functions would be monomials and b without gradient.

    At infinity phi_j is of the order |x|^(j - n) if b_n is not 0: bounded for m <= n, growing for m > n. |x|
    is clamped to 10^(16 / max(m, n)), so that all values are finite.

    Args:
        numerator_degree: Degree of the numerators, m.
        denominator_degree: Degree of the denominator, n.
        squash: Domain policy; None, "tanh" or "sigmoid".
        num_channels: Number of channels, C, for learnable denominators.

    Raises:
        ValueError: A degree is too small.
    """

    name = "rational"
    learns_per_channel = True
    denominator: Tensor

    def __init__(
        self,
        numerator_degree: int = 4,
        denominator_degree: int = 4,
        *,
        squash: Squash | None = None,
        num_channels: int | None = None,
    ) -> None:
        for key, value, minimum in (
            ("numerator_degree", numerator_degree, 0),
            ("denominator_degree", denominator_degree, 1),
        ):
            if value < minimum:
                raise ValueError(f"{key}={value} must be at least {minimum}")
        super().__init__(
            num_basis=numerator_degree + 1, domain=None, squash=squash, num_channels=num_channels
        )
        self._own("denominator", size=denominator_degree)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialize the denominators as 1 + |x|^n."""
        self.denominator.zero_()
        self.denominator[:, -1] = 1.0

    def define(self, constant: bool = True) -> tuple[Definition, tuple[Tensor, ...]]:
        """Return the definition of the functions, and the denominators."""
        definition = Definition(
            _fractions, sizes=(self.denominator.shape[-1],), settings=(self.num_basis - 1,)
        )
        return definition, (self.denominator,)
