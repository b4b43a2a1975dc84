"""Polynomials by a three-term recurrence, p_{n+1} = (A_n x + B_n) p_n - C_n p_{n-1}, p_0 = 1.

Shapes: x (...), values (..., K, ...) with K = degree + 1 inserted at `dim`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .recompute import recompute

__all__ = [
    "Recurrence",
    "chebyshev",
    "chebyshev_u",
    "fibonacci",
    "gegenbauer",
    "gram",
    "hermite",
    "jacobi",
    "legendre",
    "lucas",
    "normalized",
    "polynomials",
]


class Recurrence(NamedTuple):
    """Coefficients A_n, B_n, C_n for n = 0 ... degree - 1; C_0 is never read."""

    a: list[float]
    b: list[float]
    c: list[float]


def polynomials(x: Tensor, a: Tensor, b: Tensor, c: Tensor, dim: int, *, first: int = 0) -> Tensor:
    """Return the values of p_0 ... p_d, twice differentiable; saves only its arguments for backward.

    Backward is the adjoint recurrence: with g_n the incoming gradients,
    s_n = g_n + (A_n x + B_n) s_{n+1} - C_{n+1} s_{n+2} and dx = sum_n A_n p_n s_{n+1}.

    Args:
        x: Points in float32 or float64.
        a: Coefficients A, (d,); d = 0 is the constant p_0 only.
        b: Coefficients B, (d,).
        c: Coefficients C, (d,), of which the first is not used. All three are differentiable.
        dim: Axis of the polynomials in the result.
        first: Index of the first polynomial; 1 omits p_0.

    Returns:
        Shape of `x` with d + 1 - first inserted at `dim`.
    """
    return recompute(_Polynomials(dim, first), x, a, b, c)


class _Polynomials(NamedTuple):
    dim: int
    first: int

    def values(self, x: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        degree = a.numel()
        if torch.compiler.is_compiling():
            factors = [a[n] * x + b[n] for n in range(degree)]
            return torch.stack(_values(x, factors, c, degree)[self.first :], self.dim)
        out = x.new_empty([*x.shape[: self.dim], degree + 1 - self.first, *x.shape[self.dim :]])
        # Written into place: stacking, which a compiler fuses, would copy all values once more.
        slots = out.unbind(self.dim)
        p = [x.new_ones(()), *slots] if self.first else [*slots]
        if not self.first:
            p[0].fill_(1)
        if degree > 0:
            p[1].copy_(x).mul_(a[0]).add_(b[0])
        for n in range(1, degree):
            p[n + 1].copy_(x).mul_(a[n]).add_(b[n]).mul_(p[n]).sub_(p[n - 1] * c[n])
        return out

    def pullback(
        self, needs: tuple[bool, ...], grad: Tensor, x: Tensor, a: Tensor, b: Tensor, c: Tensor
    ) -> tuple[Tensor | None, ...]:
        degree = a.numel()
        grad_x = torch.zeros_like(x)
        if degree == 0:
            empty = [torch.zeros_like(coefficient) for coefficient in (a, b, c)]
            return tuple(g if need else None for g, need in zip((grad_x, *empty), needs, strict=True))
        # g[0] is never read: no input moves p_0.
        g = [grad, *grad.unbind(self.dim)] if self.first else [*grad.unbind(self.dim)]
        factors = [a[n] * x + b[n] for n in range(degree)]
        # The last polynomial is not part of any derivative; p_0 = 1 is omitted from the products below.
        p = _values(x, factors, c, degree - 1)
        grad_a, grad_b, grad_c = ([torch.zeros_like(a[0])] * degree for _ in range(3))
        above: Tensor | None = None  # s_{n+2}
        s = g[degree]  # s_{n+1}
        for n in reversed(range(degree)):
            through = p[n] * s if n else s
            grad_x = torch.addcmul(grad_x, a[n], through)
            if needs[1]:
                grad_a[n] = (x * through).sum()
            if needs[2]:
                grad_b[n] = through.sum()
            if needs[3] and n:
                grad_c[n] = -(p[n - 1] * s if n > 1 else s).sum()
            if n:
                below = torch.addcmul(g[n], factors[n], s)
                above, s = s, below if above is None else below - c[n + 1] * above
        stacked = [torch.stack(entries) for entries in (grad_a, grad_b, grad_c)]
        return tuple(g if need else None for g, need in zip((grad_x, *stacked), needs, strict=True))


def _values(x: Tensor, factors: list[Tensor], c: Tensor, degree: int) -> list[Tensor]:
    """Return p_0 ... p_degree from the factors A_n x + B_n."""
    p = [torch.ones_like(x), *factors[:1]][: degree + 1]
    for n in range(1, degree):
        p.append(factors[n] * p[n] - c[n] * p[n - 1])
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
    values = _values(x, [p * x + q for p, q in zip(a, b, strict=True)], c, a.numel())
    m = [float(p.abs().max()) * (1 + 1e-6) for p in values]
    m[0] = 1.0
    steps = range(a.numel())
    return Recurrence(
        [recurrence.a[n] * m[n] / m[n + 1] for n in steps],
        [recurrence.b[n] * m[n] / m[n + 1] for n in steps],
        [recurrence.c[n] * m[n - 1] / m[n + 1] if n else 0.0 for n in steps],
    )
