"""Triton kernels of a 2-D convolution of expanded maps that never writes the maps to memory.

The convolution is an implicit matrix product. Its reduction runs over the taps of the kernel, the channels
and the functions. A tile of x is loaded once for each tap; the K values are computed in float32 from it and
multiplied by the weights of each function. Maps outside of the image are 0, whatever the functions are at 0.

Shapes: B batch, C channels, O outputs, K functions, H W height and width of x, OH OW those of the result;
x (B, C, H, W), weights (taps, K, C, O).
"""

from __future__ import annotations

from collections.abc import Sequence

from .arrangement import Placement
from .trace import Program
from .triton_source import emit_loads, emit_program, refer

__all__ = ["emit_forward", "emit_points_backward", "emit_weight_backward"]

_SIZES = "M, C, O, H, W, OH, OW, SH, SW, PH, PW, DH, DW, TAPS, KW"
_OPTIONS = "BM: tl.constexpr, BC: tl.constexpr, BO: tl.constexpr, PRECISION: tl.constexpr"
# A position m of the result, and the position of x that a tap reads for it.
_RESULT_POSITIONS = """\
n = (m // (OH * OW)).to(tl.int64)
oh = m % (OH * OW) // OW
ow = m % OW"""
_TAP = """\
ih = oh * SH - PH + tap // KW * DH
iw = ow * SW - PW + tap % KW * DW
ok = ((m < M) & (ih >= 0) & (ih < H) & (iw >= 0) & (iw < W))[:, None] & (i < C)
x = tl.load(X + (n * C * H * W + ih * W + iw)[:, None] + i.to(tl.int64) * H * W, ok, 0.0).to(tl.float32)"""
_GRADIENTS = "tl.load(G + (n * O * OH * OW + oh * OW + ow)[:, None] + o[None, :].to(tl.int64) * OH * OW"


def emit_forward(program: Program, sizes: Sequence[int], placements: Sequence[Placement]) -> str:
    """Return the code of the kernel `forward`, which writes the result Y (B, O, OH, OW).

    Args:
        program: Program of `trace_values`.
        sizes: Number of scalars of each input.
        placements: Place of each input, "shared" or "point" for one of each channel.
    """
    products = []
    for j, line in enumerate(program.results):
        address = f"Q + ((tap * {len(program.results)} + {j}) * C + channels[:, None]) * O + o[None, :]"
        products += [
            f"w = tl.load({address}, (channels[:, None] < C) & (o[None, :] < O), 0.0)",
            f"acc += tl.dot({_map(program, line)}.to(w.dtype), w, input_precision=PRECISION)",
        ]
    body = [
        "m = tl.program_id(0) * BM + tl.arange(0, BM)",
        "o = tl.program_id(1) * BO + tl.arange(0, BO)",
        *_RESULT_POSITIONS.split("\n"),
        *emit_loads(sizes, placements, "shared"),
        "acc = tl.zeros((BM, BO), tl.float32)",
        "for tap in range(0, TAPS):",
        "    for start in range(0, C, BC):",
        *_indent(_channels("start"), 2),
        *_indent(emit_loads(sizes, placements, "point"), 2),
        *_indent(_TAP.split("\n"), 2),
        *_indent(emit_program(program), 2),
        *_indent(products, 2),
        "y = Y + (n * O * OH * OW + oh * OW + ow)[:, None] + o[None, :].to(tl.int64) * OH * OW",
        "tl.store(y, acc, (m < M)[:, None] & (o < O)[None, :])",
    ]
    return _kernel("forward", "X, Q, Y", len(sizes), body)


def emit_weight_backward(program: Program, sizes: Sequence[int], placements: Sequence[Placement]) -> str:
    """Return the code of the kernel `weight_backward`: gradients A (splits, taps, K, C, O) of the weights.

    The last axis of the grid splits the positions of the result. The arguments are those of `emit_forward`.
    """
    count = len(program.results)
    products, stores = [], []
    for j, line in enumerate(program.results):
        product = f"tl.dot(tl.trans({_map(program, line)}.to(g.dtype)), g, input_precision=PRECISION)"
        products.append(f"d{j} += {product}")
        slot = f"(((tl.program_id(2) * TAPS + tap) * {count} + {j}) * C + channels[:, None]) * O + o[None, :]"
        stores.append(f"tl.store(A + {slot}, d{j}, (channels[:, None] < C) & (o[None, :] < O))")
    body = [
        "tap = tl.program_id(0) % TAPS",
        *_channels("tl.program_id(0) // TAPS * BC"),
        "o = tl.program_id(1) * BO + tl.arange(0, BO)",
        *emit_loads(sizes, placements, "shared", "point"),
        *(f"d{j} = tl.zeros((BC, BO), tl.float32)" for j in range(count)),
        "for step in range(0, tl.cdiv(M, BM * tl.num_programs(2))):",
        "    m = (step * tl.num_programs(2) + tl.program_id(2)) * BM + tl.arange(0, BM)",
        *_indent(_RESULT_POSITIONS.split("\n"), 1),
        *_indent(_TAP.split("\n"), 1),
        f"    g = {_GRADIENTS}, (m < M)[:, None] & (o < O)[None, :], 0.0)",
        *_indent(emit_program(program), 1),
        *_indent(products, 1),
        *stores,
    ]
    return _kernel("weight_backward", "X, G, A", len(sizes), body)


def emit_points_backward(
    program: Program,
    sizes: Sequence[int],
    placements: Sequence[Placement],
    wanted: Sequence[bool],
    num_functions: int,
) -> str:
    """Return the code of the kernel `points_backward`: gradients D of x, sums `A<index>` for wanted inputs.

    Here a position m is one of x. The sums are (row programs, column programs, n) for shared inputs and
    (row programs, n, C) for inputs of each channel.

    Args:
        program: Program of `trace_gradients`.
        sizes: Number of scalars of each input.
        placements: Place of each input, "shared" or "point".
        wanted: True for x, and for each input, if the gradient is needed.
        num_functions: Number of functions, K.
    """
    products = []
    for j in range(num_functions):
        address = f"Q + ((tap * {num_functions} + {j}) * C + i) * O + o[:, None]"
        products += [
            f"w = tl.load({address}, (o[:, None] < O) & (i < C), 0.0)",
            f"g{j} += tl.dot(g, w.to(g.dtype), input_precision=PRECISION)",
        ]
    results = list(program.results)
    stores = [f"tl.store(D + place, {refer(program, results.pop(0))}, ok)"] if wanted[0] else []
    for index, (size, place) in enumerate(zip(sizes, placements, strict=True)):
        for k in range(size if wanted[1 + index] else 0):
            part = f"tl.where(ok, {refer(program, results.pop(0))}, 0.0)"
            if place == "shared":
                slot = f"(tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)) * {size} + {k}"
                stores.append(f"tl.store(A{index} + {slot}, tl.sum({part}))")
            else:
                slot = f"(tl.program_id(0) * {size} + {k}) * C + i"
                stores.append(f"tl.store(A{index} + {slot}, tl.sum({part}, 0, keep_dims=True), i < C)")
    body = [
        "m = tl.program_id(0) * BM + tl.arange(0, BM)",
        *_channels("tl.program_id(1) * BC"),
        "n = (m // (H * W)).to(tl.int64)",
        "ih = m % (H * W) // W",
        "iw = m % W",
        *(f"g{j} = tl.zeros((BM, BC), tl.float32)" for j in range(num_functions)),
        "for tap in range(0, TAPS):",
        "    th = ih + PH - tap // KW * DH",
        "    tw = iw + PW - tap % KW * DW",
        "    oh = th // SH",
        "    ow = tw // SW",
        "    hit = (m < M) & (th >= 0) & (oh * SH == th) & (oh < OH)",
        "    hit = hit & (tw >= 0) & (ow * SW == tw) & (ow < OW)",
        "    for start in range(0, O, BO):",
        "        o = start + tl.arange(0, BO)",
        f"        g = {_GRADIENTS}, hit[:, None] & (o < O)[None, :], 0.0)",
        *_indent(products, 2),
        "ok = (m < M)[:, None] & (i < C)",
        "place = (n * C * H * W + ih * W + iw)[:, None] + i.to(tl.int64) * H * W",
        "x = tl.load(X + place, ok, 0.0).to(tl.float32)",
        *emit_loads(sizes, placements, "shared", "point"),
        *emit_program(program),
        *stores,
    ]
    sums = "".join(f", A{index}" for index, need in enumerate(wanted[1:]) if need)
    return _kernel("points_backward", f"X, Q, G, D{sums}", len(sizes), body)


def _kernel(name: str, arguments: str, num_inputs: int, body: Sequence[str]) -> str:
    inputs = "".join(f", P{index}" for index in range(num_inputs))
    head = f"@triton.jit\ndef {name}({arguments}{inputs}, {_SIZES}, {_OPTIONS}):"
    return "\n".join([head, "    L = C", *_indent(body, 1)]) + "\n"


def _channels(start: str) -> list[str]:
    """Return the statements of the channels of a tile, as a column of the weights and as a row of points."""
    return [f"channels = {start} + tl.arange(0, BC)", "i = channels[None, :]"]


def _map(program: Program, line: int) -> str:
    """Return a map with zeros outside of the image."""
    return f"tl.where(ok, {refer(program, line)}, 0.0)"


def _indent(lines: Sequence[str], levels: int) -> list[str]:
    return [f"{'    ' * levels}{line}" for line in lines]
