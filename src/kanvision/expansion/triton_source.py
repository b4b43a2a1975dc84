"""Triton kernels for the programs of a definition, in float32 arithmetic.

A kernel runs over R rows of L contiguous points and writes K values of L points for each row, in the order in
memory of the loops in C. A program has tiles of ROWS x BLOCK points, and walks over the rows in steps of the
number of programs.
"""

from __future__ import annotations

from collections.abc import Sequence

from .arrangement import Placement
from .trace import Operation, Program

__all__ = ["LIBRARY", "emit_gradients", "emit_loads", "emit_program", "emit_values", "refer"]

LIBRARY = '''
import triton
import triton.language as tl


@triton.jit
def kv_tanh(x):
    """x times a polynomial of x^2 near 0, where the other form loses digits (Cephes, Moshier)."""
    a = tl.abs(x)
    far = 1.0 - 2.0 / (1.0 + tl.exp(2.0 * tl.where(a > 10.0, 10.0, a)))
    s = x * x
    p = -5.70498872745e-3 * s + 2.06390887954e-2
    p = p * s - 5.37397155531e-2
    p = p * s + 1.33314422036e-1
    p = p * s - 3.33332819422e-1
    return tl.where(a < 0.625, p * s * x + x, tl.where(x < 0, -far, far))
'''
"""Beginning of a module with kernels."""

_EXPRESSIONS = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "neg": "-{0}",
    "relu": "tl.where({0} < 0, 0.0, {0})",  # NaN stays
    "clamp": "tl.where({0} < {1}, {1}, tl.where({0} > {2}, {2}, {0}))",
    "sign": "tl.where({0} > 0, 1.0, tl.where({0} < 0, -1.0, {0}))",
    "select": "tl.where({0}, {1}, {2})",
    "less": "({0} < {1})",
    "at_most": "({0} <= {1})",
    "tanh": "kv_tanh({0})",
    "sigmoid": "1.0 / (1.0 + tl.exp(-{0}))",
    **{name: f"tl.{name}({{0}})" for name in ("exp", "erf", "sin", "cos", "sqrt", "abs", "floor")},
}
_GEOMETRY = "R, L, sets, tiles, ROWS: tl.constexpr, BLOCK: tl.constexpr"
_ADDRESSES: dict[Placement, str] = {
    "shared": "P{index} + {k}",
    "row": "P{index} + (r % sets) * {size} + {k}, r < R, 0.0",
    "point": "P{index} + {k} * L + i, i < L, 0.0",
}


def emit_values(program: Program, sizes: Sequence[int], placements: Sequence[Placement]) -> str:
    """Return the code of the kernel `values`, which writes values Y at points X.

    Args:
        program: Program of `trace_values`.
        sizes: Number of scalars of each input.
        placements: Place of each input.
    """
    count = len(program.results)
    stores = [
        f"tl.store(ys + {j} * L, {_expand(program, line)}, ok)" for j, line in enumerate(program.results)
    ]
    per_tile = [_start("ys", "Y", count), *emit_program(program), *stores]
    return _kernel("values", "X, Y", sizes, placements, [], per_tile, [])


def emit_gradients(
    program: Program,
    sizes: Sequence[int],
    placements: Sequence[Placement],
    wanted: Sequence[bool],
    num_functions: int,
) -> str:
    """Return the code of the kernel `gradients`, which writes gradients D of points and sums of the others.

    For each wanted input there is an argument `A<index>` with the sums of programs, in order: shared inputs
    (programs, blocks, n), inputs of a row (blocks, R, n), inputs of a point (programs, n, L).

    Args:
        program: Program of `trace_gradients`.
        sizes: Number of scalars of each input.
        placements: Place of each input.
        wanted: True for the points, and for each input, if the gradient is needed.
        num_functions: Number of functions, K, whose gradients G holds as the values lie.
    """
    results = list(program.results)
    gradients = [f"g{j} = tl.load(gs + {j} * L, ok, 0.0).to(tl.float32)" for j in range(num_functions)]
    per_tile = [_start("gs", "G", num_functions), *gradients, *emit_program(program)]
    if wanted[0]:
        per_tile.append(f"tl.store(D + r * L + i, {_expand(program, results.pop(0))}, ok)")
    before, after = [], []
    for index, (size, place) in enumerate(zip(sizes, placements, strict=True)):
        for k in range(size if wanted[1 + index] else 0):
            total = f"d{index}_{k}"
            part = f"tl.where(ok, {_expand(program, results.pop(0))}, 0.0)"
            match place:
                case "shared":
                    before.append(f"{total} = 0.0")
                    per_tile.append(f"{total} += tl.sum({part})")
                    slot = f"(tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)) * {size} + {k}"
                    after.append(f"tl.store(A{index} + {slot}, {total})")
                case "row":
                    slot = f"(tl.program_id(1) * R + r) * {size} + {k}"
                    sums = f"tl.sum({part}, 1, keep_dims=True)"
                    per_tile.append(f"tl.store(A{index} + {slot}, {sums}, r < R)")
                case "point":
                    before.append(f"{total} = tl.zeros((1, BLOCK), tl.float32)")
                    per_tile.append(f"{total} += tl.sum({part}, 0, keep_dims=True)")
                    slot = f"(tl.program_id(0) * {size} + {k}) * L + i"
                    after.append(f"tl.store(A{index} + {slot}, {total}, i < L)")
    sums_of = ", ".join(f"A{index}" for index, need in enumerate(wanted[1:]) if need)
    arguments = "X, G, D" + (f", {sums_of}" if sums_of else "")
    return _kernel("gradients", arguments, sizes, placements, before, per_tile, after)


def _kernel(
    name: str,
    arguments: str,
    sizes: Sequence[int],
    placements: Sequence[Placement],
    before: Sequence[str],
    per_tile: Sequence[str],
    after: Sequence[str],
) -> str:
    """Return the code of a kernel: statements before, in and after the loop over tiles of rows."""
    inputs = "".join(f", P{index}" for index in range(len(sizes)))
    outside = [
        "i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]",
        *emit_loads(sizes, placements, "shared", "point"),
        *before,
    ]
    inside = [
        "tile = (tl.program_id(0) + step * tl.num_programs(0)).to(tl.int64)",
        "r = tile * ROWS + tl.arange(0, ROWS)[:, None]",
        "ok = (r < R) & (i < L)",
        *emit_loads(sizes, placements, "row"),
        "x = tl.load(X + r * L + i, ok, 0.0).to(tl.float32)",
        *per_tile,
    ]
    lines = [
        "@triton.jit",
        f"def {name}({arguments}{inputs}, {_GEOMETRY}):",
        *(f"    {line}" for line in outside),
        "    for step in range(0, tl.cdiv(tiles, tl.num_programs(0))):",
        *(f"        {line}" for line in inside),
        *(f"    {line}" for line in after),
    ]
    return "\n".join(lines) + "\n"


def _start(name: str, start: str, num_functions: int) -> str:
    """Return the statement of the addresses of the first values of a tile."""
    return f"{name} = {start} + r * {num_functions} * L + i"


def emit_loads(sizes: Sequence[int], placements: Sequence[Placement], *only: Placement) -> list[str]:
    """Return the statements that load the inputs of some placements."""
    return [
        f"q{index}_{k} = tl.load({_ADDRESSES[place].format(index=index, size=size, k=k)})"
        for index, (size, place) in enumerate(zip(sizes, placements, strict=True))
        if place in only
        for k in range(size)
    ]


def emit_program(program: Program) -> list[str]:
    """Return the statements of all lines but constants and arguments."""
    statements = []
    for line in program.lines:
        operation = program.operations[line]
        if not operation.is_leaf:
            parts = [refer(program, part) for part in operation.lines]
            statements.append(f"t{line} = {_EXPRESSIONS[operation.name].format(*parts)}")
    return statements


def refer(program: Program, line: int) -> str:
    """Return the expression by which other lines use a line."""
    match program.operations[line]:
        case Operation("const", (value,)):
            return f"({value!r})"
        case Operation("x"):
            return "x"
        case Operation("grad", (index,)):
            return f"g{index}"
        case Operation("input", (index, k)):
            return f"q{index}_{k}"
    return f"t{line}"


def _expand(program: Program, line: int) -> str:
    """Return the expression of a result in the shape of a tile."""
    used = refer(program, line)
    return used if line in program.per_point else f"tl.zeros_like(x) + {used}"
