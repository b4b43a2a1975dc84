"""Orthogonal polynomials, with one recurrence for all families. Shapes: C channels, K basis functions."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from kanvision.expansion.define import Definition
from kanvision.ops import polynomials as op

from .base import Basis, Squash

__all__ = [
    "ChebyshevBasis",
    "GegenbauerBasis",
    "GramBasis",
    "HermiteBasis",
    "JacobiBasis",
    "LegendreBasis",
    "PolynomialBasis",
]

_Polynomials = TypeVar("_Polynomials", bound="PolynomialBasis")
_Gram = TypeVar("_Gram", bound="GramBasis")


class PolynomialBasis(Basis):
    """Polynomials p_0 ... p_degree on [-1, 1] by p_{n+1} = (A_n x + B_n) p_n - C_n p_{n-1}, K = degree + 1.

    With `squash=None` inputs beyond [-1, 1] are extrapolated, and values grow like |x|^degree. The constant
    p_0 is 1 for every input, NaN included; the others propagate NaN.

    Args:
        degree: Highest degree; 0 is the constant only.
        family: Function of a degree that returns the coefficients of the recurrence up to it; those of a step
            do not depend on it.
        normalize: Scale each polynomial to at most 1 on [-1, 1].
        squash: Domain policy, see `Basis`.
        num_channels: Used only for the shape of learnable parameters in subclasses.

    Raises:
        ValueError: The degree is negative.
    """

    has_constant = True
    recurrence: Tensor

    def __init__(
        self,
        degree: int,
        family: Callable[[int], op.Recurrence],
        *,
        normalize: bool = False,
        squash: Squash | None,
        num_channels: int | None,
    ) -> None:
        if degree < 0:
            raise ValueError(f"degree={degree} must be at least 0")
        super().__init__(num_basis=degree + 1, domain=(-1.0, 1.0), squash=squash, num_channels=num_channels)
        self.degree = degree
        self._family = partial(_normalized, family) if normalize else family
        self._constant("recurrence", 3, degree)  # rows A, B, C
        self._reset_recurrence()

    @torch.no_grad()
    def _reset_recurrence(self) -> None:
        self.recurrence.copy_(self.recurrence.new_tensor(self._family(self.degree)))

    def reset_parameters(self) -> None:
        """Set the coefficients of the recurrence."""
        self._reset_recurrence()

    def extended(self: _Polynomials, extra: int) -> _Polynomials:
        """Return a basis of these polynomials and the next `extra` ones of the family, K + extra functions.

        Raises:
            ValueError: if `extra` is negative or the family has no polynomials of that degree.
        """
        if extra < 0:
            raise ValueError(f"extra={extra} must be at least 0")
        longer = copy.deepcopy(self)
        longer.degree += extra
        longer.num_basis += extra
        longer.recurrence = self.recurrence.new_empty(3, longer.degree)
        longer._reset_recurrence()
        longer.recurrence[:, : self.degree] = self.recurrence  # which may be rounded to float32
        return longer

    def define(self, constant: bool = True) -> tuple[Definition, tuple[Tensor, ...]]:
        """Return the definition of the polynomials, and the coefficients of the recurrence."""
        return op.define_polynomials(self.degree, first=int(not constant)), (self.recurrence.flatten(),)


class ChebyshevBasis(PolynomialBasis):
    """Chebyshev polynomials of the first kind, T_n(cos t) = cos(n t).

    ChebyKAN, arXiv 2405.07200; the recurrence has the finite gradients that cos(n arccos x) lacks at +-1.

    Args:
        degree: Highest degree.
        squash: Domain policy, see `Basis`.
        num_channels: Not used.
    """

    name = "chebyshev"

    def __init__(
        self, degree: int = 3, *, squash: Squash | None = "tanh", num_channels: int | None = None
    ) -> None:
        super().__init__(degree, op.chebyshev, squash=squash, num_channels=num_channels)


class LegendreBasis(PolynomialBasis):
    """Legendre polynomials, orthogonal on [-1, 1] with weight 1.

    Args:
        degree: Highest degree.
        squash: Domain policy, see `Basis`.
        num_channels: Not used.
    """

    name = "legendre"

    def __init__(
        self, degree: int = 3, *, squash: Squash | None = "tanh", num_channels: int | None = None
    ) -> None:
        super().__init__(degree, op.legendre, squash=squash, num_channels=num_channels)


class JacobiBasis(PolynomialBasis):
    """Jacobi polynomials, orthogonal on [-1, 1] with weight (1 - x)^alpha (1 + x)^beta.

    Args:
        degree: Highest degree.
        alpha: Exponent, > -1.
        beta: Exponent, > -1.
        normalize: Scale each polynomial to max |p_n| <= 1 on [-1, 1]; unscaled they reach
            C(n + max(alpha, beta), n).
        squash: Domain policy, see `Basis`.
        num_channels: Not used.

    Raises:
        ValueError: An exponent is not above -1.
    """

    name = "jacobi"

    def __init__(
        self,
        degree: int = 3,
        alpha: float = 1.0,
        beta: float = 1.0,
        normalize: bool = True,
        *,
        squash: Squash | None = "tanh",
        num_channels: int | None = None,
    ) -> None:
        for key, value in (("alpha", alpha), ("beta", beta)):
            if not value > -1:
                raise ValueError(f"{key}={value} must be above -1")
        super().__init__(
            degree,
            partial(op.jacobi, alpha=alpha, beta=beta),
            normalize=normalize,
            squash=squash,
            num_channels=num_channels,
        )


class HermiteBasis(PolynomialBasis):
    """Physicists' Hermite polynomials on [-1, 1], H_{n+1} = 2 x H_n - 2 n H_{n-1}.

    Args:
        degree: Highest degree.
        normalize: Scale each polynomial to max |H_n| <= 1 on [-1, 1]; unscaled they reach 41 at degree 5.
        squash: Domain policy, see `Basis`.
        num_channels: Not used.
    """

    name = "hermite"

    def __init__(
        self,
        degree: int = 3,
        normalize: bool = True,
        *,
        squash: Squash | None = "tanh",
        num_channels: int | None = None,
    ) -> None:
        super().__init__(
            degree,
            op.hermite,
            normalize=normalize,
            squash=squash,
            num_channels=num_channels,
        )


class GegenbauerBasis(PolynomialBasis):
    """Gegenbauer polynomials, orthogonal on [-1, 1] with weight (1 - x^2)^(alpha - 1/2).

    Args:
        degree: Highest degree.
        alpha: > 0; 1/2 is Legendre, 1 is Chebyshev of the second kind.
        normalize: Scale each polynomial to max |C_n| <= 1 on [-1, 1]; unscaled they reach 252 at degree 5,
            alpha 3.
        squash: Domain policy, see `Basis`.
        num_channels: Not used.

    Raises:
        ValueError: Alpha is not positive.
    """

    name = "gegenbauer"

    def __init__(
        self,
        degree: int = 3,
        alpha: float = 3.0,
        normalize: bool = True,
        *,
        squash: Squash | None = "tanh",
        num_channels: int | None = None,
    ) -> None:
        if not alpha > 0:
            raise ValueError(f"alpha={alpha} must be positive")
        super().__init__(
            degree,
            partial(op.gegenbauer, alpha=alpha),
            normalize=normalize,
            squash=squash,
            num_channels=num_channels,
        )


class GramBasis(PolynomialBasis):
    """Gram polynomials with learnable recurrence: p_{n+1} = x p_n - beta_n C_n p_{n-1}.

    At beta = 1 these are the monic polynomials orthogonal over `num_points` midpoints of equal cells of
    [-1, 1], with C_n = n^2 (m^2 - n^2) / (m^2 (4 n^2 - 1)). The published layers (Drokin 2024, arXiv
    2407.01092) start at beta close to 0, i.e. at monomials: N(0, s^2) with s = 1 / (k^n C (degree + 1))
    for a k^n kernel over C channels. A basis has no access to its layer, so `beta_std` replaces s: 1e-3 is
    s for 3x3 kernels over 32 channels at degree 3.

    Args:
        degree: Highest degree; beta has degree - 1 entries, none below degree 2.
        num_points: Number of points, m, greater than the degree.
        parity: Use the constants of the published code, C_n = (2 n + 1) n^2 (4 n^2 - 1) / (n + 1)^2, and a
            beta of degree + 1 entries, of which the first and the last are never used.
        beta_mean: Mean of the initial beta; 1 with `beta_std=0` starts at the Gram polynomials.
        beta_std: Standard deviation of the initial beta.
        squash: Domain policy, see `Basis`.
        num_channels: Not used, all channels share beta.

    Raises:
        ValueError: if `num_points` does not exceed the degree or `beta_std` is negative.
    """

    name = "gram"

    def __init__(
        self,
        degree: int = 3,
        num_points: int = 32,
        parity: bool = False,
        beta_mean: float = 0.0,
        beta_std: float = 1e-3,
        *,
        squash: Squash | None = "tanh",
        num_channels: int | None = None,
    ) -> None:
        if num_points <= degree:
            raise ValueError(f"num_points={num_points} must be above degree={degree}")
        if beta_std < 0:
            raise ValueError(f"beta_std={beta_std} must not be negative")
        family = partial(op.gram, num_points=num_points, parity=parity)
        super().__init__(degree, family, squash=squash, num_channels=num_channels)
        self.num_points = num_points
        self.beta_mean = beta_mean
        self.beta_std = beta_std
        # Below degree 2 beta is not used, and a parameter without gradient would stop distributed training.
        self.beta = nn.Parameter(torch.empty(degree + 1 if parity else degree - 1)) if degree >= 2 else None
        self.parity = parity
        self.kan_parameters = ("beta",) if degree >= 2 else ()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the coefficients of the recurrence and draw beta."""
        super().reset_parameters()
        if self.beta is not None:
            nn.init.normal_(self.beta, self.beta_mean, self.beta_std)

    def extended(self: _Gram, extra: int) -> _Gram:
        """Return a basis with `extra` more polynomials; betas keep their steps, those of new steps are 0.

        Raises:
            ValueError: if `extra` is negative or `num_points` does not exceed the new degree.
        """
        longer = super().extended(extra)
        if longer.num_points <= longer.degree:
            raise ValueError(
                f"num_points={self.num_points} must be above the degree {self.degree} + {extra} extra ones"
            )
        if longer.degree >= 2:
            learns = self.beta is None or self.beta.requires_grad
            longer.beta = nn.Parameter(self._extended_beta(longer.degree), learns)
            longer.kan_parameters = ("beta",)
        return longer

    def _extended_beta(self, degree: int) -> Tensor:
        """Return beta for a higher degree; the last published entry, which is never read, stays last."""
        if self.beta is None:
            return self.recurrence.new_zeros(degree + 1 if self.parity else degree - 1)
        released = self.beta.detach()
        zeros = released.new_zeros(degree - self.degree)
        pieces = [released[:-1], zeros, released[-1:]] if self.parity else [released, zeros]
        return torch.cat(pieces)

    def factors(self) -> Tensor | None:
        """Return the learnable factors of the steps n = 1 ... degree - 1, the ones in use."""
        return self.beta[1:-1] if self.parity and self.beta is not None else self.beta

    def define(self, constant: bool = True) -> tuple[Definition, tuple[Tensor, ...]]:
        """Return the definition of the polynomials, the coefficients of the recurrence and the factors."""
        factors = self.factors()
        if factors is None:
            return super().define(constant)
        definition = op.define_polynomials(self.degree, first=int(not constant), learns=True)
        return definition, (self.recurrence.flatten(), factors)


def _normalized(family: Callable[[int], op.Recurrence], degree: int) -> op.Recurrence:
    return op.normalized(family(degree))
