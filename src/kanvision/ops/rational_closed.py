"""Group rational in plain tensor operations with explicit derivatives, for any device and tracer.

Formulas, forms and legend as in `kanvision.ops.rational`. With v = |x| in the kernels' form and v = x in that
of the paper, and |b_j| or b_j as coefficients, both are Q = 1 + |w| with w = b_1 v + ... + b_n v^n, and the
slope of Q is t dw/dv with t = s(x) or t = s(w).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

__all__ = ["compute_limits", "rational_gradients", "rational_value"]

# Elements of a temporary: two of a thread's shares of torch's elementwise loops, 256 KiB in float32.
_CHUNK_PER_THREAD = 2**16


def rational_value(x: Tensor, numerator: Tensor, denominator: Tensor, dim: int, form: str) -> Tensor:
    """Return F(x), as `kanvision.ops.rational.rational` does."""
    coefficients = _Coefficients.of(x, numerator, denominator, dim, form)
    out = torch.empty_like(x)
    axis, length = _chunking(x, dim)
    if length >= x.shape[axis]:
        return out.copy_(_value(x, coefficients))
    for x_part, out_part in _parts(axis, length, x, out):
        out_part.copy_(_value(x_part, coefficients))
    return out


def rational_gradients(
    grad: Tensor,
    x: Tensor,
    numerator: Tensor,
    denominator: Tensor,
    dim: int,
    form: str,
    needed: Sequence[bool] = (True, True, True),
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients of x, a and b, accumulated over chunks; None where not needed."""
    coefficients = _Coefficients.of(x, numerator, denominator, dim, form)
    axis, length = _chunking(x, dim)
    if length >= x.shape[axis]:
        dx, da, db = _local_grads(grad, x, coefficients, needed)
    else:
        dx, da, db = torch.empty_like(x) if needed[0] else None, None, None
        parts = (x, grad) if dx is None else (x, grad, dx)
        for x_part, grad_part, *dx_part in _parts(axis, length, *parts):
            more_dx, more_da, more_db = _local_grads(grad_part, x_part, coefficients, needed)
            if more_dx is not None:
                dx_part[0].copy_(more_dx)
            da = more_da if da is None or more_da is None else da.add_(more_da)
            db = more_db if db is None or more_db is None else db.add_(more_db)
    if db is not None:
        sign = torch.where(denominator < 0, 1.0, -1.0) if form == "kernel" else db.new_tensor(-1.0)
        db = (db * sign.to(db.dtype)).to(denominator.dtype)
    return dx, None if da is None else da.to(numerator.dtype), db


def compute_limits(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Return T, a scalar: the largest |x| for which no monomial overflows in this dtype."""
    columns = [*numerator.t()[1:], *denominator.t()]
    degrees = [*range(1, numerator.shape[1]), *range(1, denominator.shape[1] + 1)]
    limits = [_limit(column, degree).amin() for column, degree in zip(columns, degrees, strict=True)]
    lowest: Tensor = torch.stack(limits).amin()
    return lowest.clamp(1.0, _largest(numerator.dtype))


def _largest(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).max / 256  # room for the sum over the monomials and for i * a_i


def _limit(coefficient: Tensor, degree: int) -> Tensor:
    # Roots first: the quotient of the two may overflow. A zero coefficient has limit inf.
    limit: Tensor = _largest(coefficient.dtype) ** (1 / degree) * coefficient.abs() ** (-1 / degree)
    return limit


class _Coefficients(NamedTuple):
    """Coefficients of one call, ready to broadcast against any chunk of x."""

    a: list[Tensor]
    b: list[Tensor]  # absolute values in the kernels' form
    limit: Tensor  # T
    rows: tuple[int, int]  # of numerator and denominator
    dim: int
    form: str

    @classmethod
    def of(cls, x: Tensor, numerator: Tensor, denominator: Tensor, dim: int, form: str) -> _Coefficients:
        dtype = _wide_dtype(x)
        a = _per_channel(numerator.to(dtype), x, dim)
        b = _per_channel((denominator.abs() if form == "kernel" else denominator).to(dtype), x, dim)
        limits = [_limit(c, i) for poly in (a[1:], b) for i, c in enumerate(poly, start=1)]
        # A reduction, so that a compiler does not compute the roots again for each element of x.
        limit = torch.stack(torch.broadcast_tensors(*limits)).amin(0).clamp(1.0, _largest(dtype))  # type: ignore[no-untyped-call]
        return cls(a, b, limit, (numerator.shape[0], denominator.shape[0]), dim, form)


def _value(x: Tensor, coefficients: _Coefficients) -> Tensor:
    a, b = coefficients.a, coefficients.b
    z, stretch = _bounded(x, coefficients)
    r, _, _ = _reciprocal_q(z, b, stretch, coefficients.form, slope=False)
    y = _horner(a, z, stretch).mul_(r)
    return _restore(y, len(a) - 1 - len(b), stretch)


def _local_grads(
    grad: Tensor, x: Tensor, coefficients: _Coefficients, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the closed form with one reciprocal: r = 1 / Q, y = P r, u = grad r, R = P', S = dw/dv.

    dx = u (R - y t S),  da_i = sum u x^i,  db_j = -sigma(b_j) sum u y |x|^j in the kernels' form and
    -sum u y s(w) x^j in that of the paper (returned without - and sigma). Q^2, which overflows early in
    float32, never appears.
    """
    a, b, _, rows, dim, form = coefficients
    m, n = len(a) - 1, len(b)
    z, stretch = _bounded(x, coefficients)
    r, v, sign = _reciprocal_q(z, b, stretch, form)
    y = _horner(a, z, stretch).mul_(r)
    if stretch is not None:
        # F itself overflows there; the derivative need not, and inf * 0 would make it NaN.
        y.clamp_(min=torch.finfo(y.dtype).min, max=torch.finfo(y.dtype).max)
    u = r.mul_(grad)
    dx = da = db = None
    if needed[0]:
        dp = _horner([i * a[i] for i in range(1, m + 1)], z, stretch)
        dq = _horner([(j + 1) * b[j] for j in range(n)], v, stretch).mul_(sign)
        dx = _restore(dp.addcmul_(y, dq, value=-1).mul_(u), m - n - 1, stretch).to(x.dtype)
    if needed[2]:
        sums = []
        power = y.mul_(u) if form == "kernel" else y.mul_(u).mul_(sign)
        for j in range(1, n + 1):
            power.mul_(v)
            sums.append(_fold(_restored(power, m - 2 * n + j, stretch), rows[1], dim))
        db = torch.stack(sums, dim=-1)
    if needed[1]:
        sums = [_fold(_restored(u, -n, stretch), rows[0], dim)]
        for i in range(1, m + 1):
            u.mul_(z)
            sums.append(_fold(_restored(u, i - n, stretch), rows[0], dim))
        da = torch.stack(sums, dim=-1)
    return dx, da, db


class _Stretch(NamedTuple):
    """Elementwise factor that keeps monomials in range: x = z h with h = max(1, |x| / T) and kappa = 1 / h.

    A polynomial of degree d is then h^d times its homogeneous form sum_i c_i z^i kappa^(d - i), which is
    bounded; the powers of h in P / Q are restored after the division. Exact algebra; no change for |x| <= T.
    """

    h: Tensor
    kappas: list[Tensor]  # kappa^1 ... kappa^max(m, n)


def _bounded(x: Tensor, coefficients: _Coefficients) -> tuple[Tensor, _Stretch | None]:
    """Split x into z and the stretch, which is None if it is known without a sync that none is needed."""
    wide = x.to(_wide_dtype(x))
    abs_x = wide.abs()
    limit = coefficients.limit
    if _values_are_readable(abs_x) and (abs_x.numel() == 0 or bool(abs_x.amax() <= limit.amin())):
        return wide, None
    h = (abs_x * limit.reciprocal()).clamp_(min=1.0)
    kappa = (limit / abs_x).clamp_(max=1.0)
    kappas = [kappa]
    for _ in range(max(len(coefficients.a) - 1, len(coefficients.b)) - 1):
        kappas.append(kappas[-1] * kappa)
    return wide * kappa, _Stretch(h, kappas)


def _values_are_readable(x: Tensor) -> bool:
    """Return True if a branch on the values of x is free: an ordinary CPU tensor outside any tracer."""
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
    return x.device.type == "cpu" and type(x) in (Tensor, Parameter) and not traced


def _chunking(x: Tensor, dim: int) -> tuple[int, int]:
    """Return the axis to split x along and the chunk length; on a CPU, temporaries then fit its cache."""
    others = [d for d in range(x.dim()) if d != dim]
    if not others or not _values_are_readable(x):
        return dim, x.shape[dim]
    axis = max(others, key=lambda d: (x.stride(d) * (x.shape[d] > 1), x.shape[d]))
    num_parts = -(-x.numel() // (_CHUNK_PER_THREAD * torch.get_num_threads()))
    return axis, max(1, -(-x.shape[axis] // max(1, num_parts)))


def _parts(axis: int, length: int, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(torch.split(t, length, axis) for t in tensors), strict=True)


def _horner(coefficients: Sequence[Tensor], z: Tensor, stretch: _Stretch | None) -> Tensor:
    """Return sum c_i z^i (homogeneous in (z, kappa) when stretched) in a new tensor of the shape of z."""
    if len(coefficients) == 1:
        return torch.ones_like(z).mul_(coefficients[0])
    if stretch is None:
        out = torch.addcmul(coefficients[-2], coefficients[-1], z)
        for c in reversed(coefficients[:-2]):
            torch.addcmul(c, out, z, out=out)
        return out
    out = coefficients[-1] * z
    for k, c in enumerate(reversed(coefficients[:-1])):
        if k > 0:
            out.mul_(z)
        out.addcmul_(stretch.kappas[k], c)
    return out


def _reciprocal_q(
    z: Tensor, b: Sequence[Tensor], stretch: _Stretch | None, form: str, slope: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Return 1 / Q, v and, where a slope is needed, t."""
    if form == "kernel":
        v = z.abs()
        sign = _sign(z) if slope else z
        q = _horner([torch.ones_like(b[0]), *b], v, stretch)
    else:
        v = z
        w = _horner([torch.zeros_like(b[0]), *b], v, stretch)
        sign = _sign(w) if slope else w
        q = w.abs_().add_(1.0 if stretch is None else stretch.kappas[len(b) - 1])
    if stretch is not None:
        q.clamp_(min=torch.finfo(q.dtype).tiny)  # h^-n may underflow where F itself overflows
    return q.reciprocal_(), v, sign


def _sign(x: Tensor) -> Tensor:
    """Return -1 if x < 0 else +1, ten times as fast as torch.where on a CPU."""
    return x.sign().add_(0.5).sign_()


def _restore(t: Tensor, power: int, stretch: _Stretch | None) -> Tensor:
    """Multiply t by h^power in place, one factor at a time: h^power alone may be inf where t is zero."""
    if stretch is not None:
        for _ in range(abs(power)):
            t.mul_(stretch.h if power > 0 else stretch.kappas[0])
    return t


def _restored(t: Tensor, power: int, stretch: _Stretch | None) -> Tensor:
    return t if stretch is None or power == 0 else _restore(t.clone(), power, stretch)


def _per_channel(coefficients: Tensor, x: Tensor, dim: int) -> list[Tensor]:
    """Split (rows, k) into k tensors that broadcast against x: one value if shared, else one per channel."""
    rows = coefficients.shape[0]
    if rows > 1:
        coefficients = coefficients.repeat_interleave(x.shape[dim] // rows, dim=0)  # (D, k)
    # (k, D) or (k, 1): values that lie side by side vectorize better.
    columns = coefficients.t().contiguous()
    trailing = (1,) * (x.dim() - 1 - dim)
    return [c.view(-1, *trailing) for c in columns.unbind(0)]


def _fold(t: Tensor, rows: int, dim: int) -> Tensor:
    """Sum t over all elements that share a coefficient, to (rows,): the inverse of `_per_channel`."""
    if rows == 1:
        return t.sum().view(1)
    others = [d for d in range(t.dim()) if d != dim]
    per_channel = t.sum(others) if others else t  # (D,)
    return per_channel.reshape(rows, -1).sum(-1)


def _wide_dtype(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)
