"""Polynomials by a three-term recurrence, p_{n+1} = (A_n x + B_n) p_n - C_n p_{n-1}, p_0 = 1."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from kanvision.expansion.define import Definition, Scalar, Vocabulary

__all__ = [
    "Recurrence",
    "chebyshev",
    "chebyshev_u",
    "define_polynomials",
    "fibonacci",
    "gegenbauer",
    "gram",
    "hermite",
    "jacobi",
    "legendre",
    "lucas",
    "normalized",
]


class Recurrence(NamedTuple):
    """Coefficients A_n, B_n, C_n for n = 0 ... degree - 1; C_0 is never read."""

    a: list[float]
    b: list[float]
    c: list[float]


@lru_cache(maxsize=64)
def define_polynomials(degree: int, *, first: int = 0, learns: bool = False) -> Definition:
    """Return the definition of p_0 ... p_d, whose input are the coefficients A, B and C one after the other.

    Args:
        degree: Highest degree, d; 0 is the constant p_0 only.
        first: Index of the first polynomial; 1 omits p_0.
        learns: Second input with factors of C_1 ... C_{d-1}.
    """
    sizes = (3 * degree, degree - 1) if learns else (3 * degree,)
    return Definition(_recur, sizes=sizes, settings=(degree, first))


def _recur(m: Vocabulary, x: Scalar, rows: Sequence[Scalar], *more: Any) -> list[Scalar]:
    """Return p_first ... p_degree."""
    *factors, degree, first = more
    a, b, c = rows[:degree], rows[degree : 2 * degree], list(rows[2 * degree :])
    for own in factors:
        c[1:] = [entry * factor for entry, factor in zip(c[1:], own, strict=True)]
    return _list_values([a[n] * x + b[n] for n in range(degree)], c)[first:]


def _list_values(factors: Sequence[Scalar], c: Sequence[Scalar]) -> list[Scalar]:
    """Return p_0 ... p_d from the factors A_n x + B_n."""
    p: list[Scalar] = [1.0, *factors[:1]]
    for n in range(1, len(factors)):
        # p_0 = 1 is omitted from the product
        p.append(factors[n] * p[n] - (c[n] * p[n - 1] if n > 1 else c[n]))
    return p


def chebyshev(degree: int) -> Recurrence:
    """Return the recurrence of the first kind, T_n(cos t) = cos(n t), |T_n| <= 1 on [-1, 1]."""
    return Recurrence([1.0 if n == 0 else 2.0 for n in range(degree)], [0.0] * degree, [1.0] * degree)


def chebyshev_u(degree: int) -> Recurrence:
    """Return the recurrence of the second kind, U_n(cos t) = sin((n + 1) t) / sin t, |U_n| <= n + 1."""
    return Recurrence([2.0] * degree, [0.0] * degree, [1.0] * degree)


def fibonacci(degree: int) -> Recurrence:
    """Return the recurrence of p_n = F_{n+1}, F_0 = 0, F_1 = 1, F_{n+1} = x F_n + F_{n-1}."""
    return Recurrence([1.0] * degree, [0.0] * degree, [-1.0] * degree)


def lucas(degree: int) -> Recurrence:
    """Return the recurrence of L_0 = 2, L_1 = x, L_{n+1} = x L_n + L_{n-1}, with p_0 = L_0 / 2 = 1."""
    return Recurrence([1.0] * degree, [0.0] * degree, [-2.0 if n == 1 else -1.0 for n in range(degree)])


def legendre(degree: int) -> Recurrence:
    """Return the recurrence of polynomials orthogonal on [-1, 1] with weight 1; |P_n| <= 1."""
    steps = range(degree)
    return Recurrence([(2 * n + 1) / (n + 1) for n in steps], [0.0] * degree, [n / (n + 1) for n in steps])


def jacobi(degree: int, alpha: float, beta: float) -> Recurrence:
    """Return the recurrence of polynomials orthogonal on [-1, 1] with weight (1 - x)^alpha (1 + x)^beta.

    p_1 = ((alpha + beta + 2) x + alpha - beta) / 2, and with i = n + 1, s = 2 i + alpha + beta:
    A = s (s - 1) / (2 i (i + alpha + beta)), B = (s - 1)(alpha^2 - beta^2) / (2 i (i + alpha + beta)(s - 2)),
    C = (i + alpha - 1)(i + beta - 1) s / (i (i + alpha + beta)(s - 2)).
    """
    a, b, c = [(alpha + beta + 2) / 2], [(alpha - beta) / 2], [0.0]
    for i in range(2, degree + 1):
        s = 2 * i + alpha + beta
        common = i * (i + alpha + beta)
        a.append(s * (s - 1) / (2 * common))
        b.append((s - 1) * (alpha**2 - beta**2) / (2 * common * (s - 2)))
        c.append((i + alpha - 1) * (i + beta - 1) * s / (common * (s - 2)))
    return Recurrence(a[:degree], b[:degree], c[:degree])


def hermite(degree: int) -> Recurrence:
    """Return the recurrence of physicists' Hermite polynomials, H_{n+1} = 2 x H_n - 2 n H_{n-1}."""
    return Recurrence([2.0] * degree, [0.0] * degree, [2.0 * n for n in range(degree)])


def gegenbauer(degree: int, alpha: float) -> Recurrence:
    """Return the recurrence of polynomials orthogonal on [-1, 1] with weight (1 - x^2)^(alpha - 1/2)."""
    steps = range(degree)
    return Recurrence(
        [2 * (n + alpha) / (n + 1) for n in steps],
        [0.0] * degree,
        [(n + 2 * alpha - 1) / (n + 1) for n in steps],
    )


def gram(degree: int, num_points: int, *, parity: bool = False) -> Recurrence:
    """Return the recurrence of monic Gram polynomials, orthogonal over m midpoints of cells of [-1, 1].

    C_n = n^2 (m^2 - n^2) / (m^2 (4 n^2 - 1)), which tends to the monic Legendre polynomials for large m.

    With `parity` the constants of the published layers instead, which divide by the wrong factor and take
    m = n + 1: C_n = (2 n + 1) n^2 (4 n^2 - 1) / (n + 1)^2.
    """
    if parity:
        c = [(2 * n + 1) * n**2 * (4 * n**2 - 1) / (n + 1) ** 2 for n in range(degree)]
    else:
        m = num_points
        c = [n**2 * (m**2 - n**2) / (m**2 * (4 * n**2 - 1)) for n in range(degree)]
    return Recurrence([1.0] * degree, [0.0] * degree, c)


def normalized(recurrence: Recurrence) -> Recurrence:
    """Rescale a recurrence so that max |p_n| on [-1, 1] is at most 1 for every n.

    With q_n = p_n / m_n the recurrence is q_{n+1} = (m_n / m_{n+1}) (A_n x + B_n) q_n - (m_{n-1} / m_{n+1})
    C_n q_{n-1}, so that nothing large is ever computed.
    """
    x = torch.linspace(-1.0, 1.0, 20001, dtype=torch.float64, device="cpu")
    a, b, c = (torch.tensor(column, dtype=torch.float64, device="cpu") for column in recurrence)
    # The slack covers extrema between two points of the grid.
    values = _list_values([p * x + q for p, q in zip(a, b, strict=True)], c.tolist())
    m = [1.0, *(float(p.abs().max()) * (1 + 1e-6) for p in values[1:])]
    steps = range(a.numel())
    return Recurrence(
        [recurrence.a[n] * m[n] / m[n + 1] for n in steps],
        [recurrence.b[n] * m[n] / m[n + 1] for n in steps],
        [recurrence.c[n] * m[n - 1] / m[n + 1] if n else 0.0 for n in steps],
    )
