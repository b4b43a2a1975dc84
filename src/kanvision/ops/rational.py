"""Group-wise safe Pade rational of KAT ("Kolmogorov-Arnold Transformer", arXiv 2409.10594) in kernel form.

Per channel c of group k(c) = floor(c / (D / G)), numerator degree m, denominator degree n (KAT: 5 and 4):

    P(x) = a_0 + a_1 x + ... + a_m x^m      Q(x) = 1 + |b_1||x| + ... + |b_n||x|^n      F(x) = P(x) / Q(x)

Q >= 1, so F has no poles. This is the form that the published GPU kernels compute and the published weights
were trained with; the paper's own formula, 1 + |b_1 x + ... + b_n x^n|, is another function.

Signs at the kinks: s(x) = -1 if x < 0 else +1 and sigma(b) = -1 if b < 0 else +1. With sigma(0) = +1 the
denominator of the identity (b = 0) receives a gradient from the first step on; torch.sign would hold it at
zero for ever.

Legend: D channels, G groups, T largest |x| for which no monomial overflows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import Parameter

__all__ = ["rational", "rational_reference"]

# Elements of a temporary: two of a thread's shares of torch's elementwise loops, 256 KiB in float32.
_CHUNK_PER_THREAD = 2**16


def rational(x: Tensor, numerator: Tensor, denominator: Tensor, channel_dim: int = -1) -> Tensor:
    """Evaluate F(x) = P(x) / Q(x) with closed-form derivatives, keeping x alone for the backward pass.

    Half-precision inputs are computed in float32; the result has the dtype of x, also under autocast. Where
    a monomial would overflow, P and Q are evaluated in homogeneous form (see `_Stretch`), so that a finite x
    gives the rounded value of F(x) and never inf / inf. Differentiable any number of times; derivatives of
    derivatives go through `rational_reference` and have no protection against overflow.

    Args:
        x: Any shape with D channels at `channel_dim`; floating point, any strides.
        numerator: (1, m + 1) shared by all groups or (G, m + 1); coefficients a_0 ... a_m.
        denominator: (1, n) or (G, n); coefficients b_1 ... b_n.
        channel_dim: The axis of x that the G contiguous blocks of channels lie on.

    Returns:
        Tensor of the shape and dtype of x.

    Raises:
        ValueError: x is not floating point or has no such axis, the coefficients are not matrices of matching
            rows, or D is not a multiple of G.
    """
    dim = _checked_dim(x, numerator, denominator, channel_dim)
    return cast(Tensor, _Rational.apply(x, numerator, denominator, dim))


def rational_reference(x: Tensor, numerator: Tensor, denominator: Tensor, channel_dim: int = -1) -> Tensor:
    """Evaluate F(x) = P(x) / Q(x) term by term under plain autograd: the oracle for `rational`.

    Same arguments, result, conventions and errors as `rational`, without its protection against overflow.
    """
    dim = _checked_dim(x, numerator, denominator, channel_dim)
    wide = x.to(_wide_dtype(x))
    abs_x = wide * torch.where(wide < 0, -1.0, 1.0).to(wide.dtype)
    abs_b = denominator * torch.where(denominator < 0, -1.0, 1.0).to(denominator.dtype)
    p = torch.zeros_like(wide)
    for i, a_i in enumerate(_per_channel(numerator.to(wide.dtype), wide, dim)):
        p = p + a_i * wide**i
    q = torch.ones_like(wide)
    for j, b_j in enumerate(_per_channel(abs_b.to(wide.dtype), wide, dim), start=1):
        q = q + b_j * abs_x**j
    return (p / q).to(x.dtype)


class _Rational(torch.autograd.Function):
    """F with the derivatives of F written out; see `rational`."""

    @staticmethod
    def forward(x: Tensor, numerator: Tensor, denominator: Tensor, dim: int) -> Tensor:
        coefficients = _Coefficients.of(x, numerator, denominator, dim)
        axis, length = _chunking(x, dim)
        if length >= x.shape[axis]:
            return _value(x, coefficients)
        out = torch.empty_like(x)
        for x_part, out_part in _parts(axis, length, x, out):
            out_part.copy_(_value(x_part, coefficients))
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, int], output: Tensor) -> None:
        x, numerator, denominator, ctx.dim = inputs
        ctx.save_for_backward(x, numerator, denominator)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        needed = tuple(ctx.needs_input_grad[:3])
        if torch.is_grad_enabled():  # create_graph=True: the derivatives must be differentiable themselves
            return (*_differentiable_grads(grads[0], inputs, ctx.dim, needed), None)
        return (*_closed_form_grads(grads[0], inputs, ctx.dim, needed), None)


def _closed_form_grads(
    grad: Tensor, inputs: tuple[Tensor, Tensor, Tensor], dim: int, needed: tuple[bool, ...]
) -> list[Tensor | None]:
    """Gradients of x, a and b by `_local_grads`, gathered over the chunks."""
    x, numerator, denominator = inputs
    coefficients = _Coefficients.of(x, numerator, denominator, dim)
    axis, length = _chunking(x, dim)
    if length >= x.shape[axis]:
        dx, da, db = _local_grads(grad, x, coefficients, needed)
    else:
        dx, da, db = torch.empty_like(x), None, None
        for x_part, grad_part, dx_part in _parts(axis, length, x, grad, dx):
            more_dx, more_da, more_db = _local_grads(grad_part, x_part, coefficients, needed)
            if more_dx is not None:
                dx_part.copy_(more_dx)
            da = more_da if da is None or more_da is None else da.add_(more_da)
            db = more_db if db is None or more_db is None else db.add_(more_db)
    if db is not None:
        db = (db * torch.where(denominator < 0, 1.0, -1.0).to(db.dtype)).to(denominator.dtype)
    return [dx if needed[0] else None, None if da is None else da.to(numerator.dtype), db]


class _Coefficients(NamedTuple):
    """Coefficients of one call, ready to broadcast against any chunk of x."""

    a: list[Tensor]
    b: list[Tensor]  # absolute values
    limit: Tensor  # T
    rows: tuple[int, int]  # of numerator and denominator
    dim: int

    @classmethod
    def of(cls, x: Tensor, numerator: Tensor, denominator: Tensor, dim: int) -> _Coefficients:
        dtype = _wide_dtype(x)
        a = _per_channel(numerator.to(dtype), x, dim)
        b = _per_channel(denominator.abs().to(dtype), x, dim)
        largest = torch.finfo(dtype).max / 256  # leaves room for the sum over the monomials and for i * a_i
        # Roots first: the quotient of the two may overflow. A zero coefficient has limit inf.
        limits = [
            largest ** (1 / i) * c.abs() ** (-1 / i)
            for poly in (a[1:], b)
            for i, c in enumerate(poly, start=1)
        ]
        widest = max(limits, key=Tensor.numel)
        # A reduction, so that a compiler does not compute the roots again for each element of x.
        limit = torch.stack([each.expand_as(widest) for each in limits]).amin(0).clamp(1.0, largest)
        return cls(a, b, limit, (numerator.shape[0], denominator.shape[0]), dim)


def _value(x: Tensor, coefficients: _Coefficients) -> Tensor:
    a, b = coefficients.a, coefficients.b
    z, abs_z, stretch = _bounded(x, coefficients)
    y = _horner(a, z, stretch).mul_(_reciprocal_q(b, abs_z, stretch))
    return _restore(y, len(a) - 1 - len(b), stretch).to(x.dtype)


def _local_grads(
    grad: Tensor, x: Tensor, coefficients: _Coefficients, needed: tuple[bool, ...]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Closed form with one reciprocal: r = 1 / Q, y = P r, u = grad r, R = P', S = Q'.

    dx = u (R - y S),  da_i = sum u x^i,  db_j = -sigma(b_j) sum u y |x|^j (returned without -sigma). Q^2,
    which overflows early in float32, never appears.
    """
    a, b, _, rows, dim = coefficients
    m, n = len(a) - 1, len(b)
    z, abs_z, stretch = _bounded(x, coefficients)
    r = _reciprocal_q(b, abs_z, stretch)
    y = _horner(a, z, stretch).mul_(r)
    if stretch is not None:
        # F itself overflows there; the derivative need not, and inf * 0 would make it NaN.
        y.clamp_(min=torch.finfo(y.dtype).min, max=torch.finfo(y.dtype).max)
    u = r.mul_(grad)
    dx = da = db = None
    if needed[0]:
        dp = _horner([i * a[i] for i in range(1, m + 1)], z, stretch)
        dq = _horner([(j + 1) * b[j] for j in range(n)], abs_z, stretch)
        dq.mul_(z.sign().add_(0.5).sign_())  # s(x): ten times as fast as torch.where on a CPU
        dx = _restore(dp.addcmul_(y, dq, value=-1).mul_(u), m - n - 1, stretch).to(x.dtype)
    if needed[2]:
        sums = []
        power = y.mul_(u)
        for j in range(1, n + 1):
            power.mul_(abs_z)
            sums.append(_fold(_restored(power, m - 2 * n + j, stretch), rows[1], dim))
        db = torch.stack(sums, dim=-1)
    if needed[1]:
        sums = [_fold(_restored(u, -n, stretch), rows[0], dim)]
        for i in range(1, m + 1):
            u.mul_(z)
            sums.append(_fold(_restored(u, i - n, stretch), rows[0], dim))
        da = torch.stack(sums, dim=-1)
    return dx, da, db


def _differentiable_grads(
    grad: Tensor, inputs: tuple[Tensor, Tensor, Tensor], dim: int, needed: tuple[bool, ...]
) -> list[Tensor | None]:
    """The same gradients through the plain formula, for derivatives of derivatives of any order."""
    out = rational_reference(*inputs, dim)
    wanted = [t for t, need in zip(inputs, needed, strict=True) if need]
    found = iter(torch.autograd.grad(out, wanted, grad, create_graph=True))
    return [next(found) if need else None for need in needed]


class _Stretch(NamedTuple):
    """Per-element factor that keeps monomials in range: x = z h with h = max(1, |x| / T) and kappa = 1 / h.

    A polynomial of degree d is then h^d times its homogeneous form sum_i c_i z^i kappa^(d - i), which is
    bounded; the powers of h in P / Q are restored after the division. Exact algebra; no change for |x| <= T.
    """

    h: Tensor
    kappas: list[Tensor]  # kappa^1 ... kappa^max(m, n)


def _bounded(x: Tensor, coefficients: _Coefficients) -> tuple[Tensor, Tensor, _Stretch | None]:
    """Split x into z, |z| and the stretch: None if no element needs one and that is known without a sync."""
    wide = x.to(_wide_dtype(x))
    abs_x = wide.abs()
    limit = coefficients.limit
    if _values_are_readable(abs_x) and (abs_x.numel() == 0 or bool(abs_x.amax() <= limit.amin())):
        return wide, abs_x, None
    h = (abs_x * limit.reciprocal()).clamp_(min=1.0)
    kappa = (limit / abs_x).clamp_(max=1.0)
    kappas = [kappa]
    for _ in range(max(len(coefficients.a) - 1, len(coefficients.b)) - 1):
        kappas.append(kappas[-1] * kappa)
    return wide * kappa, abs_x * kappa, _Stretch(h, kappas)


def _values_are_readable(x: Tensor) -> bool:
    """Whether a branch on the values of x is free: an ordinary CPU tensor outside any tracer."""
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
    return x.device.type == "cpu" and type(x) in (Tensor, Parameter) and not traced


def _chunking(x: Tensor, dim: int) -> tuple[int, int]:
    """Axis to split x along and the length of a part: on a CPU, temporaries that stay in its cache."""
    others = [d for d in range(x.dim()) if d != dim]
    if not others or not _values_are_readable(x):
        return dim, x.shape[dim]
    axis = max(others, key=lambda d: (x.stride(d) * (x.shape[d] > 1), x.shape[d]))
    num_parts = -(-x.numel() // (_CHUNK_PER_THREAD * torch.get_num_threads()))
    return axis, max(1, -(-x.shape[axis] // max(1, num_parts)))


def _parts(axis: int, length: int, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(torch.split(t, length, axis) for t in tensors), strict=True)


def _horner(coefficients: Sequence[Tensor], z: Tensor, stretch: _Stretch | None) -> Tensor:
    """Sum c_i z^i (homogeneous in (z, kappa) when stretched) in a fresh tensor of the shape of z."""
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


def _reciprocal_q(b: Sequence[Tensor], abs_z: Tensor, stretch: _Stretch | None) -> Tensor:
    q = _horner([torch.ones_like(b[0]), *b], abs_z, stretch)
    if stretch is not None:
        q.clamp_(min=torch.finfo(q.dtype).tiny)  # h^-n may underflow where F itself overflows
    return q.reciprocal_()


def _restore(t: Tensor, power: int, stretch: _Stretch | None) -> Tensor:
    """Multiply t by h^power in place, one factor at a time: h^power alone could be inf where t is zero."""
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
    # (k, D) or (k, 1): values that lie side by side vectorise better.
    columns = coefficients.t().contiguous()
    trailing = (1,) * (x.dim() - 1 - dim)
    return [c.view(-1, *trailing) for c in columns.unbind(0)]


def _fold(t: Tensor, rows: int, dim: int) -> Tensor:
    """Sum t over all that shares a coefficient: the inverse of `_per_channel`, to (rows,)."""
    if rows == 1:
        return t.sum().view(1)
    others = [d for d in range(t.dim()) if d != dim]
    per_channel = t.sum(others) if others else t  # (D,)
    return per_channel.reshape(rows, -1).sum(-1)


def _wide_dtype(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _checked_dim(x: Tensor, numerator: Tensor, denominator: Tensor, channel_dim: int) -> int:
    """Refuse what cannot be computed; return channel_dim counted from the front."""
    if not x.is_floating_point():
        raise ValueError(f"rational needs a floating point input, got {x.dtype}.")
    if not -x.dim() <= channel_dim < x.dim():
        raise ValueError(f"channel_dim={channel_dim} is not an axis of an input of shape {tuple(x.shape)}.")
    for name, coefficients, least in (("numerator", numerator, 2), ("denominator", denominator, 1)):
        if coefficients.dim() != 2 or coefficients.shape[1] < least:
            raise ValueError(
                f"{name} must have shape (1 or groups, at least {least}), got {tuple(coefficients.shape)}."
            )
    groups = max(numerator.shape[0], denominator.shape[0])
    for name, coefficients in (("numerator", numerator), ("denominator", denominator)):
        if coefficients.shape[0] not in (1, groups):
            raise ValueError(f"{name} has {coefficients.shape[0]} rows; legal: 1 or {groups}.")
    dim = channel_dim % x.dim()
    if x.shape[dim] % groups:
        raise ValueError(
            f"The {x.shape[dim]} channels at axis {channel_dim} of shape {tuple(x.shape)} "
            f"cannot be split into {groups} equal groups."
        )
    return dim
