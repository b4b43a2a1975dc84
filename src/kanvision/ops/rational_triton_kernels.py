"""GPU kernels of `kanvision.ops.rational_fused`.

x is viewed as (outer, D, inner), contiguous. A tile is R positions (of outer where inner is 1, else of inner)
by CP packets of V neighboring channels that share a group, so that the ten coefficients of a packet are read
once for the whole tile and a thread sums over a packet in its registers. Legend: S stretch, see `_Stretch` in
`kanvision.ops.rational_closed`; K True for the form "kernel", False for "paper"; F the type of the arithmetic.
"""

# ruff: noqa: ANN001, ANN202, E501, RUF059, SIM108
# mypy: ignore-errors
from typing import Any

import torch

__all__ = ["build"]


def build() -> tuple[Any, Any, dict[torch.dtype, Any]]:
    """Build the kernels of values and gradients, compiled on demand, and the types of their arithmetic."""
    global tl, tile_offsets, coefficient, coefficients, stretched, polynomials  # triton looks for names among the globals
    import triton
    import triton.language as tl

    @triton.jit
    def tile_offsets(tile, positions, D, inner, blocks, LAST: tl.constexpr, R: tl.constexpr):
        """Offsets of the positions of a tile, and which of them there are."""
        wide = tl.zeros((R,), tl.int64)  # offsets go beyond 2^31
        if LAST:
            rows = (wide + tile) * R + tl.arange(0, R)
            return rows * D, rows < positions
        offsets = (wide + tile % blocks) * R + tl.arange(0, R)
        return (wide + tile // blocks) * D * inner + offsets, offsets < inner

    @triton.jit
    def coefficient(ptr, groups, k: tl.constexpr, width: tl.constexpr, dtype: tl.constexpr):
        return tl.load(ptr + groups * width + k).to(dtype)[None, :, None]  # (1, CP, 1)

    @triton.jit
    def coefficients(a_ptr, b_ptr, groups, F: tl.constexpr):
        """a0 to a5 and b1 to b4 of some groups."""
        a0 = coefficient(a_ptr, groups, 0, 6, F)
        a1 = coefficient(a_ptr, groups, 1, 6, F)
        a2 = coefficient(a_ptr, groups, 2, 6, F)
        a3 = coefficient(a_ptr, groups, 3, 6, F)
        a4 = coefficient(a_ptr, groups, 4, 6, F)
        a5 = coefficient(a_ptr, groups, 5, 6, F)
        b1 = coefficient(b_ptr, groups, 0, 4, F)
        b2 = coefficient(b_ptr, groups, 1, 4, F)
        b3 = coefficient(b_ptr, groups, 2, 4, F)
        b4 = coefficient(b_ptr, groups, 3, 4, F)
        return a0, a1, a2, a3, a4, a5, b1, b2, b3, b4

    @triton.jit
    def stretched(x, limit):
        """z, h and kappa of x: x = z h with h = max(1, |x| / limit)."""
        ratio = tl.abs(x) / limit
        h = tl.where(ratio <= 1, 1.0, ratio)  # keeps NaN
        kappa = 1.0 / h
        return x * kappa, h, kappa

    @triton.jit
    def polynomials(z, kappa, a0, a1, a2, a3, a4, a5, b1, b2, b3, b4, S: tl.constexpr, K: tl.constexpr):
        """P and 1 / Q, homogeneous in (z, kappa) where S; v, of which Q is made; and the sign of its slope."""
        if K:
            v = tl.abs(z)
        else:
            v = z
        if S:
            k2 = kappa * kappa
            k3 = k2 * kappa
            p = a5 * z + a4 * kappa
            p = p * z + a3 * k2
            p = p * z + a2 * k3
            p = p * z + a1 * k2 * k2
            p = p * z + a0 * k3 * k2
            q = b4 * v + b3 * kappa
            q = q * v + b2 * k2
            q = q * v + b1 * k3
            one = k2 * k2
        else:
            p = ((((a5 * z + a4) * z + a3) * z + a2) * z + a1) * z + a0
            q = ((b4 * v + b3) * v + b2) * v + b1
            one = 1.0
        q = q * v
        if K:
            sign = tl.where(z < 0, -1.0, 1.0).to(z.dtype)
        else:
            sign = tl.where(q < 0, -1.0, 1.0).to(z.dtype)
            q = tl.abs(q)
        q = q + one
        if S:
            q = tl.maximum(q, 1.1754943508222875e-38)  # kappa^4 may underflow, where F itself overflows
        return p, 1.0 / q, v, sign

    @triton.jit
    def values(
        x_ptr, y_ptr, a_ptr, b_ptr, limit_ptr, positions, D, inner, blocks, packets, packets_of_group,
        LAST: tl.constexpr, K: tl.constexpr, R: tl.constexpr, CP: tl.constexpr, V: tl.constexpr, F: tl.constexpr,
    ):  # fmt: skip
        base, there = tile_offsets(tl.program_id(0), positions, D, inner, blocks, LAST, R)
        packet = tl.program_id(1) * CP + tl.arange(0, CP)
        group = tl.where(packet < packets, packet // packets_of_group, 0)
        channel = packet[:, None] * V + tl.arange(0, V)[None, :]  # (CP, V)
        if LAST:
            offsets = base[:, None, None] + channel[None, :, :]
        else:
            offsets = base[:, None, None] + channel[None, :, :].to(tl.int64) * inner
        mask = there[:, None, None] & (packet < packets)[None, :, None]
        a0, a1, a2, a3, a4, a5, b1, b2, b3, b4 = coefficients(a_ptr, b_ptr, group, F)
        x = tl.load(x_ptr + offsets, mask=mask, other=0.0).to(F)
        limit = tl.load(limit_ptr)
        if tl.max(tl.max(tl.max(tl.abs(x), axis=2), axis=1), axis=0) <= limit:
            p, r, v, sign = polynomials(x, x, a0, a1, a2, a3, a4, a5, b1, b2, b3, b4, False, K)
            y = p * r
        else:
            z, h, kappa = stretched(x, limit)
            p, r, v, sign = polynomials(z, kappa, a0, a1, a2, a3, a4, a5, b1, b2, b3, b4, True, K)
            y = p * r * h
        tl.store(y_ptr + offsets, y.to(y_ptr.dtype.element_ty), mask=mask)

    @triton.jit
    def gradients(
        g_ptr, x_ptr, dx_ptr, a_ptr, b_ptr, limit_ptr, parts_ptr,
        positions, D, inner, blocks, packets, packets_of_group, tiles,
        LAST: tl.constexpr, K: tl.constexpr, R: tl.constexpr, CP: tl.constexpr, V: tl.constexpr, F: tl.constexpr,
        LARGEST: tl.constexpr,
    ):  # fmt: skip
        packet = tl.program_id(1) * CP + tl.arange(0, CP)
        group = tl.where(packet < packets, packet // packets_of_group, 0)
        channel = packet[:, None] * V + tl.arange(0, V)[None, :]  # (CP, V)
        a0, a1, a2, a3, a4, a5, b1, b2, b3, b4 = coefficients(a_ptr, b_ptr, group, F)
        limit = tl.load(limit_ptr)
        da0 = tl.zeros((R, CP), F)
        da1 = tl.zeros((R, CP), F)
        da2 = tl.zeros((R, CP), F)
        da3 = tl.zeros((R, CP), F)
        da4 = tl.zeros((R, CP), F)
        da5 = tl.zeros((R, CP), F)
        db1 = tl.zeros((R, CP), F)
        db2 = tl.zeros((R, CP), F)
        db3 = tl.zeros((R, CP), F)
        db4 = tl.zeros((R, CP), F)
        for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
            base, there = tile_offsets(tile, positions, D, inner, blocks, LAST, R)
            if LAST:
                offsets = base[:, None, None] + channel[None, :, :]
            else:
                offsets = base[:, None, None] + channel[None, :, :].to(tl.int64) * inner
            mask = there[:, None, None] & (packet < packets)[None, :, None]
            x = tl.load(x_ptr + offsets, mask=mask, other=0.0).to(F)
            g = tl.load(g_ptr + offsets, mask=mask, other=0.0).to(F)
            if tl.max(tl.max(tl.max(tl.abs(x), axis=2), axis=1), axis=0) <= limit:
                p, r, v, sign = polynomials(x, x, a0, a1, a2, a3, a4, a5, b1, b2, b3, b4, False, K)
                y = p * r
                u = g * r
                slope = (((5 * a5 * x + 4 * a4) * x + 3 * a3) * x + 2 * a2) * x + a1
                dq = (((4 * b4 * v + 3 * b3) * v + 2 * b2) * v + b1) * sign
                dx = u * (slope - y * dq)
                da0 += tl.sum(u, axis=2)
                ux = u * x
                da1 += tl.sum(ux, axis=2)
                ux = ux * x
                da2 += tl.sum(ux, axis=2)
                ux = ux * x
                da3 += tl.sum(ux, axis=2)
                ux = ux * x
                da4 += tl.sum(ux, axis=2)
                da5 += tl.sum(ux * x, axis=2)
                w = y * u
                if not K:
                    w = w * sign
                w = w * v
                db1 += tl.sum(w, axis=2)
                w = w * v
                db2 += tl.sum(w, axis=2)
                w = w * v
                db3 += tl.sum(w, axis=2)
                db4 += tl.sum(w * v, axis=2)
            else:  # the formulas above, times the powers of h that P, Q and x^i lack
                z, h, kappa = stretched(x, limit)
                p, r, v, sign = polynomials(z, kappa, a0, a1, a2, a3, a4, a5, b1, b2, b3, b4, True, K)
                y = tl.minimum(tl.maximum(p * r, -LARGEST), LARGEST)
                u = g * r
                k2 = kappa * kappa
                k3 = k2 * kappa
                slope = ((5 * a5 * z + 4 * a4 * kappa) * z + 3 * a3 * k2) * z + 2 * a2 * k3
                slope = slope * z + a1 * k2 * k2
                dq = (((4 * b4 * v + 3 * b3 * kappa) * v + 2 * b2 * k2) * v + b1 * k3) * sign
                dx = u * (slope - y * dq)
                da0 += tl.sum(u * kappa * k3, axis=2)
                uz = u * z
                da1 += tl.sum(uz * k3, axis=2)
                uz = uz * z
                da2 += tl.sum(uz * k2, axis=2)
                uz = uz * z
                da3 += tl.sum(uz * kappa, axis=2)
                uz = uz * z
                da4 += tl.sum(uz, axis=2)
                da5 += tl.sum(uz * z * h, axis=2)
                w = y * u
                if not K:
                    w = w * sign
                w = w * v
                db1 += tl.sum(w * k2, axis=2)
                w = w * v
                db2 += tl.sum(w * kappa, axis=2)
                w = w * v
                db3 += tl.sum(w, axis=2)
                db4 += tl.sum(w * v * h, axis=2)
            tl.store(dx_ptr + offsets, dx.to(dx_ptr.dtype.element_ty), mask=mask)
        # parts: (programs, 10, packets)
        to = parts_ptr + tl.program_id(0).to(tl.int64) * 10 * packets + packet
        inside = packet < packets
        tl.store(to, tl.sum(da0, axis=0), mask=inside)
        tl.store(to + packets, tl.sum(da1, axis=0), mask=inside)
        tl.store(to + 2 * packets, tl.sum(da2, axis=0), mask=inside)
        tl.store(to + 3 * packets, tl.sum(da3, axis=0), mask=inside)
        tl.store(to + 4 * packets, tl.sum(da4, axis=0), mask=inside)
        tl.store(to + 5 * packets, tl.sum(da5, axis=0), mask=inside)
        tl.store(to + 6 * packets, tl.sum(db1, axis=0), mask=inside)
        tl.store(to + 7 * packets, tl.sum(db2, axis=0), mask=inside)
        tl.store(to + 8 * packets, tl.sum(db3, axis=0), mask=inside)
        tl.store(to + 9 * packets, tl.sum(db4, axis=0), mask=inside)

    return values, gradients, {torch.float32: tl.float32, torch.float64: tl.float64}
