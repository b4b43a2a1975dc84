"""Polynomials of Lucas sequences, p_{n+1} = P p_n - Q p_{n-1} with Q = +-1. Shapes: K basis functions."""

from __future__ import annotations

from kanvision.ops import polynomials as op

from .base import Squash
from .orthogonal import PolynomialBasis

__all__ = ["ChebyshevUBasis", "FibonacciBasis", "LucasBasis"]


class ChebyshevUBasis(PolynomialBasis):
    """Chebyshev polynomials of the second kind, U_n(cos t) = sin((n + 1) t) / sin t.

    U_0 = 1, U_1 = 2 x, U_{n+1} = 2 x U_n - U_{n-1}.

    Args:
        degree: Highest degree.
        normalize: Scale each polynomial to max |U_n| <= 1 on [-1, 1]; unscaled they reach n + 1.
        squash: Domain policy, see `Basis`.
        num_channels: Not used.
    """

    name = "chebyshev_u"

    def __init__(
        self,
        degree: int = 3,
        normalize: bool = True,
        *,
        squash: Squash | None = "tanh",
        num_channels: int | None = None,
    ) -> None:
        super().__init__(
            degree, op.chebyshev_u, normalize=normalize, squash=squash, num_channels=num_channels
        )


class FibonacciBasis(PolynomialBasis):
    """Fibonacci polynomials F_1 ... F_{degree + 1}, where F_1 = 1, F_2 = x, F_{n+1} = x F_n + F_{n-1}.

    F_n has the degree n - 1. Published layers start with F_0 = 0, which has no effect.

    Args:
        degree: Highest degree.
        normalize: Scale each polynomial to max |F_n| <= 1 on [-1, 1]; unscaled they reach the Fibonacci
            numbers, 8 at degree 5.
        squash: Domain policy, see `Basis`.
        num_channels: Not used.
    """

    name = "fibonacci"

    def __init__(
        self,
        degree: int = 3,
        normalize: bool = True,
        *,
        squash: Squash | None = "tanh",
        num_channels: int | None = None,
    ) -> None:
        super().__init__(degree, op.fibonacci, normalize=normalize, squash=squash, num_channels=num_channels)


class LucasBasis(PolynomialBasis):
    """Lucas polynomials, L_1 = x, L_2 = x^2 + 2, L_{n+1} = x L_n + L_{n-1}, and the constant 1.

    The sequence starts with L_0 = 2. Here the constant is L_0 / 2 = 1, normalized or not, as in every
    polynomial basis, so that layers can add it separately; its weight absorbs the factor.

    Args:
        degree: Highest degree.
        normalize: Scale each polynomial to max |L_n| <= 1 on [-1, 1]; unscaled they reach the Lucas numbers,
            11 at degree 5.
        squash: Domain policy, see `Basis`.
        num_channels: Not used.
    """

    name = "lucas"

    def __init__(
        self,
        degree: int = 3,
        normalize: bool = True,
        *,
        squash: Squash | None = "tanh",
        num_channels: int | None = None,
    ) -> None:
        super().__init__(degree, op.lucas, normalize=normalize, squash=squash, num_channels=num_channels)
