"""GPU kernels of `kanvision.ops.karat_fused`.

Arguments of all kernels: strides of q and k (sample, head, token), heads, queries, keys, rank and scale, then
constants: D channels and BD the power of two above, R padded rank, G frequencies, BM queries and BN keys of a
tile. Shapes inside: s (BM, BN), g (BM, R), tables of coefficients (BN, R).
"""

# ruff: noqa: ANN001, ANN202, E501
# mypy: ignore-errors
from typing import Any

__all__ = ["build"]


def build() -> tuple[Any, Any, Any, Any]:
    """Build the kernels, compiled on demand: H, and the gradients of queries, keys and coefficients."""
    global tl, tile_size, logit_slope  # triton looks for names among the globals, not in closures
    import triton
    import triton.language as tl

    @triton.jit
    def tile_size(ptr, row_stride, rows, num_rows, columns, num_columns):
        inside = (rows[:, None] < num_rows) & (columns[None, :] < num_columns)
        return tl.load(ptr + rows[:, None] * row_stride + columns[None, :], mask=inside, other=0.0)

    @triton.jit
    def hidden(
        q_ptr, k_ptr, table_ptr, out_ptr, out_width,
        q_b, q_h, q_m, k_b, k_h, k_n, heads, queries, keys, rank, scale,
        D: tl.constexpr, BD: tl.constexpr, R: tl.constexpr, G: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
    ):  # fmt: skip
        b = (tl.program_id(1) // heads).to(tl.int64)
        h = (tl.program_id(1) % heads).to(tl.int64)
        rows = tl.program_id(0) * BM + tl.arange(0, BM)
        dims = tl.arange(0, BD)
        units = tl.arange(0, R)
        q = tile_size(q_ptr + b * q_b + h * q_h, q_m, rows, queries, dims, D)
        acc = tl.zeros((BM, R), tl.float32)
        for start in range(0, keys, BN):
            cols = start + tl.arange(0, BN)
            k = tile_size(k_ptr + b * k_b + h * k_h, k_n, cols, keys, dims, D)
            s = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
            cos_1 = tl.cos(s)
            sin_1 = tl.sin(s)
            cos_m = cos_1
            sin_m = sin_1
            for m in tl.static_range(G):
                if m > 0:
                    cos_last = cos_m
                    cos_m = cos_m * cos_1 - sin_m * sin_1
                    sin_m = sin_m * cos_1 + cos_last * sin_1
                of_cos = tile_size(table_ptr + (m * heads + h) * keys * R, R, cols, keys, units, R)
                of_sin = tile_size(table_ptr + ((G + m) * heads + h) * keys * R, R, cols, keys, units, R)
                acc += tl.dot(cos_m.to(q.dtype), of_cos, input_precision="ieee")
                acc += tl.dot(sin_m.to(q.dtype), of_sin, input_precision="ieee")
        offsets = (b * heads + h) * queries * out_width + rows[:, None] * out_width + units[None, :]
        tl.store(out_ptr + offsets, acc, mask=(rows[:, None] < queries) & (units[None, :] < rank))

    @triton.jit
    def logit_slope(
        s, g, table_ptr, cols, h, heads, keys, units, R: tl.constexpr, G: tl.constexpr
    ):  # fmt: skip
        """dL/dS of a tile: sum_m m (cos(m s) (g b_m) - sin(m s) (g a_m))."""
        cos_1 = tl.cos(s)
        sin_1 = tl.sin(s)
        cos_m = cos_1
        sin_m = sin_1
        ds = tl.zeros_like(s)
        for m in tl.static_range(G):
            if m > 0:
                cos_last = cos_m
                cos_m = cos_m * cos_1 - sin_m * sin_1
                sin_m = sin_m * cos_1 + cos_last * sin_1
            of_cos = tile_size(table_ptr + (m * heads + h) * keys * R, R, cols, keys, units, R)
            of_sin = tile_size(table_ptr + ((G + m) * heads + h) * keys * R, R, cols, keys, units, R)
            through_cos = tl.dot(g, tl.trans(of_cos), input_precision="ieee")
            through_sin = tl.dot(g, tl.trans(of_sin), input_precision="ieee")
            ds += (m + 1) * (cos_m * through_sin - sin_m * through_cos)
        return ds

    @triton.jit
    def of_queries(
        q_ptr, k_ptr, table_ptr, g_ptr, dq_ptr, dq_b, dq_h, dq_m,
        q_b, q_h, q_m, k_b, k_h, k_n, heads, queries, keys, rank, scale,
        D: tl.constexpr, BD: tl.constexpr, R: tl.constexpr, G: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
    ):  # fmt: skip
        b = (tl.program_id(1) // heads).to(tl.int64)
        h = (tl.program_id(1) % heads).to(tl.int64)
        rows = tl.program_id(0) * BM + tl.arange(0, BM)
        dims = tl.arange(0, BD)
        units = tl.arange(0, R)
        q = tile_size(q_ptr + b * q_b + h * q_h, q_m, rows, queries, dims, D)
        g = tile_size(g_ptr + (b * heads + h) * queries * rank, rank, rows, queries, units, rank).to(q.dtype)
        acc = tl.zeros((BM, BD), tl.float32)
        for start in range(0, keys, BN):
            cols = start + tl.arange(0, BN)
            k = tile_size(k_ptr + b * k_b + h * k_h, k_n, cols, keys, dims, D)
            s = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
            ds = logit_slope(s, g, table_ptr, cols, h, heads, keys, units, R, G)
            acc += tl.dot(ds.to(q.dtype), k, input_precision="ieee")
        offsets = b * dq_b + h * dq_h + rows[:, None] * dq_m + dims[None, :]
        inside = (rows[:, None] < queries) & (dims[None, :] < D)
        tl.store(dq_ptr + offsets, (acc * scale).to(dq_ptr.dtype.element_ty), mask=inside)

    @triton.jit
    def of_keys(
        q_ptr, k_ptr, table_ptr, g_ptr, dk_ptr, dk_b, dk_h, dk_n,
        q_b, q_h, q_m, k_b, k_h, k_n, heads, queries, keys, rank, scale,
        D: tl.constexpr, BD: tl.constexpr, R: tl.constexpr, G: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
    ):  # fmt: skip
        b = (tl.program_id(1) // heads).to(tl.int64)
        h = (tl.program_id(1) % heads).to(tl.int64)
        cols = tl.program_id(0) * BN + tl.arange(0, BN)
        dims = tl.arange(0, BD)
        units = tl.arange(0, R)
        k = tile_size(k_ptr + b * k_b + h * k_h, k_n, cols, keys, dims, D)
        acc = tl.zeros((BN, BD), tl.float32)
        for start in range(0, queries, BM):
            rows = start + tl.arange(0, BM)
            q = tile_size(q_ptr + b * q_b + h * q_h, q_m, rows, queries, dims, D)
            g = tile_size(g_ptr + (b * heads + h) * queries * rank, rank, rows, queries, units, rank).to(
                q.dtype
            )
            s = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
            ds = logit_slope(s, g, table_ptr, cols, h, heads, keys, units, R, G)
            acc += tl.dot(tl.trans(ds).to(q.dtype), q, input_precision="ieee")
        offsets = b * dk_b + h * dk_h + cols[:, None] * dk_n + dims[None, :]
        inside = (cols[:, None] < keys) & (dims[None, :] < D)
        tl.store(dk_ptr + offsets, (acc * scale).to(dk_ptr.dtype.element_ty), mask=inside)

    @triton.jit
    def of_coefficients(
        q_ptr, k_ptr, table_ptr, g_ptr, parts_ptr, batch, splits,
        q_b, q_h, q_m, k_b, k_h, k_n, heads, queries, keys, rank, scale,
        D: tl.constexpr, BD: tl.constexpr, R: tl.constexpr, G: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
    ):  # fmt: skip
        h = (tl.program_id(1) % heads).to(tl.int64)
        split = (tl.program_id(1) // heads).to(tl.int64)
        m = tl.program_id(2)
        cols = tl.program_id(0) * BN + tl.arange(0, BN)
        dims = tl.arange(0, BD)
        units = tl.arange(0, R)
        for_cos = tl.zeros((BN, R), tl.float32)
        for_sin = tl.zeros((BN, R), tl.float32)
        for b in range(split, batch, splits):
            k = tile_size(k_ptr + b * k_b + h * k_h, k_n, cols, keys, dims, D)
            for start in range(0, queries, BM):
                rows = start + tl.arange(0, BM)
                q = tile_size(q_ptr + b * q_b + h * q_h, q_m, rows, queries, dims, D)
                g = tile_size(g_ptr + (b * heads + h) * queries * rank, rank, rows, queries, units, rank)
                angle = tl.dot(k, tl.trans(q), input_precision="ieee") * scale * (m + 1)
                for_cos += tl.dot(tl.cos(angle).to(q.dtype), g.to(q.dtype), input_precision="ieee")
                for_sin += tl.dot(tl.sin(angle).to(q.dtype), g.to(q.dtype), input_precision="ieee")
        inside = (cols[:, None] < keys) & (units[None, :] < R)
        offsets = cols[:, None] * R + units[None, :]
        first = split * 2 * G
        tl.store(parts_ptr + ((first + m) * heads + h) * keys * R + offsets, for_cos, mask=inside)
        tl.store(parts_ptr + ((first + G + m) * heads + h) * keys * R + offsets, for_sin, mask=inside)

    return hidden, of_queries, of_keys, of_coefficients
