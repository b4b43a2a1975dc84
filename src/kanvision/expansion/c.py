"""Loops in C for the programs of a definition, in float32.

A loop runs over R rows of L contiguous points and writes K values of L points for each row. So one loop
serves (B, C, *S) maps, whose rows are channels, and (..., C) features, whose points are channels.

Scalars of an input are shared by all points, or belong to a row (rows modulo the number of sets), or to a
point of each row, where they lie as (n, L).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .arrangement import Placement
from .c_library import LIBRARY
from .trace import Program

__all__ = ["emit_gradients", "emit_values"]

_LEVELS: dict[Placement, int] = {"shared": 0, "row": 1, "point": 2}
_EXPRESSIONS = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "neg": "-{0}",
    "relu": "({0} < 0 ? 0 : {0})",  # NaN stays
    "clamp": "({0} < {1} ? {1} : {0} > {2} ? {2} : {0})",
    "sign": "({0} > 0 ? 1 : {0} < 0 ? -1 : {0})",
    "select": "({0} ? {1} : {2})",
    "less": "({0} < {1})",
    "at_most": "({0} <= {1})",
    "sqrt": "sqrt{suffix}({0})",
    "abs": "fabs{suffix}({0})",
    "floor": "floor{suffix}({0})",
    # functions of the library, without branches in float32
    **{name: f"kv_{name}{{suffix}}({{0}})" for name in ("exp", "tanh", "sigmoid", "erf", "sin", "cos")},
}
_CONDITIONS = ("less", "at_most")

# Points of a row between two sums in double precision.
_BLOCK = 1024
# Up to here arguments of sin and cos are reduced exactly in float32; a block beyond it is computed in double.
_LARGEST_ANGLE = 8192.0


class _Statements:
    """C statements of a program."""

    def __init__(self, program: Program, placements: Sequence[Placement]) -> None:
        self.program = program
        self.placements = placements
        self.levels: dict[int, int] = {}
        for line in program.lines:
            operation = program.operations[line]
            if operation.name in ("x", "grad"):
                self.levels[line] = 2
            elif operation.name == "input":
                self.levels[line] = _LEVELS[placements[int(operation.arguments[0])]]
            else:
                self.levels[line] = max((self.levels[part] for part in operation.lines), default=0)

    def refer(self, line: int, suffix: str) -> str:
        """Return the expression by which other lines use a line; `suffix` is f, or empty in double."""
        operation = self.program.operations[line]
        match operation.name, operation.arguments:
            case "const", (value,):
                return f"({value!r}{suffix})"
            case "x", ():
                return "x"
            case "grad", (index,):
                return f"g{index}"
        return self._compute(line, suffix) if operation.name in _CONDITIONS else f"t{line}"

    def _compute(self, line: int, suffix: str) -> str:
        operation = self.program.operations[line]
        if operation.name == "input":
            index, k = (int(argument) for argument in operation.arguments)
            return f"q{index}[{k} * L + s + i]" if self.levels[line] == 2 else f"q{index}[{k}]"
        parts = [self.refer(part, suffix) for part in operation.lines]
        return _EXPRESSIONS[operation.name].format(*parts, suffix=suffix)

    def write(self, level: int, suffix: str = "f", only: set[int] | None = None) -> str:
        """Return the statements of a level: 0 once, 1 for each row, 2 for each point."""
        found = []
        for line in self.program.lines:
            is_variable = self.program.operations[line].name not in ("const", "x", "grad", *_CONDITIONS)
            if is_variable and self.levels[line] == level and (only is None or line in only):
                found.append(f"const {_type(suffix)} t{line} = {self._compute(line, suffix)};")
        return "\n".join(found)

    def pointers(self, sizes: Sequence[int], *, of_rows: bool) -> str:
        """Return the pointers to the inputs of rows, or to the others."""
        return "\n".join(
            f"const float *restrict q{index} = P[{index}]{f' + (r % sets) * {size}' if of_rows else ''};"
            for index, (place, size) in enumerate(zip(self.placements, sizes, strict=True))
            if (place == "row") == of_rows
        )

    @property
    def angles(self) -> list[int]:
        """Return the lines of points whose sine or cosine is taken."""
        return [line for line in self.program.periodic_arguments if self.levels[line] == 2]

    def ancestors(self, lines: Sequence[int]) -> set[int]:
        """Return all lines that some lines depend on, themselves included."""
        found: set[int] = set()
        pending = list(lines)
        while pending:
            line = pending.pop()
            if line not in found:
                found.add(line)
                pending += self.program.operations[line].lines
        return found


def emit_values(program: Program, sizes: Sequence[int], placements: Sequence[Placement]) -> str:
    """Return C code of `run(X, Y, P, ...)`, which writes values Y at points X, with pointers P to inputs.

    Args:
        program: Program of `trace_values`.
        sizes: Number of scalars of each input.
        placements: Place of each input.
    """
    statements = _Statements(program, placements)

    def loop(suffix: str) -> str:
        stores = (
            f"ys[{j} * L + i] = {statements.refer(line, suffix)};" for j, line in enumerate(program.results)
        )
        return _loop(statements, suffix, "", "\n".join(stores), "")

    body = f"float *restrict ys = Y + r * {len(program.results)} * L + s;\n{_guarded(statements, loop)}"
    return _function(statements, sizes, "float *restrict Y", "Y", body)


def emit_gradients(
    program: Program,
    sizes: Sequence[int],
    placements: Sequence[Placement],
    wanted: Sequence[bool],
    num_functions: int,
) -> str:
    """Return C code of `run(X, G, D, A, P, ...)`, which writes gradients of the points and sums of others.

    Args:
        program: Program of `trace_gradients`.
        sizes: Number of scalars of each input.
        placements: Place of each input.
        wanted: True for the points, and for each input, if the gradient is needed: D for the points, and in
            A, `total` doubles for each piece of the rows, for the wanted inputs one after the other.
        num_functions: Number of functions, K, whose gradients G holds as the values lie.
    """
    statements = _Statements(program, placements)
    results = list(program.results)
    of_points = results.pop(0) if wanted[0] else None
    sums, start = [], "A"
    for index, (size, place) in enumerate(zip(sizes, placements, strict=True)):
        if wanted[1 + index]:
            slots = {"shared": "{k}", "row": f"(r % sets) * {size} + {{k}}", "point": "{k} * L + s + i"}[
                place
            ]
            for k in range(size):
                sums.append((f"{index}_{k}", f"({start})[{slots.format(k=k)}]", place, results.pop(0)))
            start += {"shared": f" + {size}", "row": f" + sets * {size}", "point": f" + L * {size}"}[place]
    in_rows = [entry for entry in sums if entry[2] != "point"]

    def loop(suffix: str) -> str:
        head = "\n".join(f"const {_type(suffix)} g{j} = gs[{j} * L + i];" for j in range(num_functions))
        tail = [] if of_points is None else [f"ds[i] = {statements.refer(of_points, suffix)};"]
        for name, slot, place, line in sums:
            target = slot if place == "point" else f"d{name}"
            tail.append(f"{target} += {statements.refer(line, suffix)};")
        reduction = f" reduction(+:{','.join(f'd{name}' for name, *_ in in_rows)})" if in_rows else ""
        return _loop(statements, suffix, head, "\n".join(tail), reduction)

    body = "\n".join(
        [
            f"const float *restrict gs = G + r * {num_functions} * L + s;",
            "" if of_points is None else "float *restrict ds = D + r * L + s;",
            *(f"float d{name} = 0;" for name, *_ in in_rows),
            _guarded(statements, loop),
            *(f"{slot} += d{name};" for name, slot, *_ in in_rows),
        ]
    )
    arguments = "const float *restrict G, float *restrict D, double *restrict A, int64_t total"
    return _function(statements, sizes, arguments, "G, D, A + piece * total, total", body)


def _type(suffix: str) -> str:
    return "float" if suffix else "double"


def _loop(statements: _Statements, suffix: str, head: str, tail: str, reduction: str) -> str:
    """Return the loop over a block of points."""
    return f"""{f"#pragma omp simd{reduction}" if suffix else ""}
for (int64_t i = 0; i < n; i++) {{
const {_type(suffix)} x = xs[i];
{head}
{statements.write(2, suffix)}
{tail}
}}"""


def _guarded(statements: _Statements, loop: Callable[[str], str]) -> str:
    """Return a loop, and for blocks with huge angles the one in double precision."""
    angles = statements.angles
    if not angles:
        return loop("f")
    widest = "\n".join(
        f"{{ const float a = fabsf({statements.refer(line, 'f')}); far = a > far ? a : far; }}"
        for line in angles
    )
    return f"""float far = 0;
#pragma omp simd reduction(max:far)
for (int64_t i = 0; i < n; i++) {{
const float x = xs[i];
{statements.write(2, "f", statements.ancestors(angles))}
{widest}
}}
if (far < {_LARGEST_ANGLE}f) {{
{loop("f")}
}} else {{
{loop("")}
}}"""


def _function(statements: _Statements, sizes: Sequence[int], arguments: str, passed: str, body: str) -> str:
    """Return the code of a library with one function, `run`."""
    call = f"rows(R * piece / pieces, R * (piece + 1) / pieces, X, {passed}, P, L, sets);"
    return f"""{LIBRARY}
static void rows(int64_t first, int64_t last, const float *restrict X, {arguments},
                 const float *const *P, int64_t L, int64_t sets) {{
{statements.pointers(sizes, of_rows=False)}
{statements.write(0)}
for (int64_t r = first; r < last; r++) {{
{statements.pointers(sizes, of_rows=True)}
{statements.write(1)}
for (int64_t s = 0; s < L; s += {_BLOCK}) {{
const int64_t n = L - s < {_BLOCK} ? L - s : {_BLOCK};
const float *restrict xs = X + r * L + s;
{body}
}} }} }}

void run(const float *X, {arguments}, const float *const *P, int64_t R, int64_t L, int64_t sets,
         int64_t pieces, int64_t threads) {{
/* One thread must not enter OpenMP, which hangs in the child of a process that has used it. */
if (threads < 2) {{
for (int64_t piece = 0; piece < pieces; piece++) {call}
return;
}}
#pragma omp parallel for num_threads(threads) schedule(static)
for (int64_t piece = 0; piece < pieces; piece++) {call}
}}
"""
