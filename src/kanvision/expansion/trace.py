"""Straight-line code of a definition: its values, and their gradients by reverse accumulation.

A formula is run once on recorded scalars. Constants are folded and equal operations exist once. Emitters turn
a `Program` into the loops of a language.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from .define import Definition, Scalar

__all__ = ["Operation", "Program", "Value", "trace_gradients", "trace_values"]

_COMMUTATIVE = ("add", "mul")


@dataclass(frozen=True)
class Operation:
    """One line of code.

    Names and arguments: `const` (value,), `x` (), `input` (index of the input, index of the scalar), `grad`
    (index of the function), and operations on earlier lines given by their index: add, sub, mul, div, neg,
    exp, tanh, sigmoid, erf, sin, cos, sqrt, abs, relu, clamp (x, low, high), floor, sign, the conditions less
    (x < y) and at_most (x <= y), select (condition, yes, no).
    """

    name: str
    arguments: tuple[float, ...] = ()

    @property
    def is_leaf(self) -> bool:
        """Return True if the arguments are not other lines."""
        return self.name in ("const", "x", "input", "grad")

    @property
    def lines(self) -> tuple[int, ...]:
        """Return the lines that this one depends on."""
        return () if self.is_leaf else tuple(int(argument) for argument in self.arguments)


@dataclass(frozen=True)
class Program:
    """Straight-line code.

    Args:
        operations: All lines; the arguments of a line are indices of earlier ones.
        lines: Indices of the lines that the results need, in order.
        results: Indices of the results.
        per_point: Lines that depend on x or on a gradient; the others are computed once for a set of inputs,
            outside of the loop over points.
    """

    operations: tuple[Operation, ...]
    lines: tuple[int, ...]
    results: tuple[int, ...]
    per_point: frozenset[int]

    @property
    def num_operations(self) -> int:
        """Return the number of arithmetic operations for one point."""
        return sum(index in self.per_point and not self.operations[index].is_leaf for index in self.lines)

    @property
    def periodic_arguments(self) -> tuple[int, ...]:
        """Return the lines whose sine or cosine is taken, which loses its digits for huge values."""
        used = (self.operations[index] for index in self.lines)
        return tuple(
            sorted(
                {line for operation in used if operation.name in ("sin", "cos") for line in operation.lines}
            )
        )


@dataclass
class Graph:
    """Record of operations."""

    operations: list[Operation] = field(default_factory=list)
    seen: dict[Operation, int] = field(default_factory=dict)

    def add(self, name: str, *arguments: float) -> Value:
        """Return the value of an operation, which is recorded if it is new."""
        operation = Operation(name, arguments)
        if operation not in self.seen:
            self.seen[operation] = len(self.operations)
            self.operations.append(operation)
        return Value(self, self.seen[operation])

    def lift(self, x: Scalar) -> Value:
        """Return a float as a value of this graph."""
        return x if isinstance(x, Value) else self.add("const", float(x))

    def apply(self, name: str, *scalars: Scalar) -> Value:
        """Return the value of an elementary operation, simplified."""
        values = [self.lift(x) for x in scalars]
        known = [value.constant for value in values]
        if all(number is not None for number in known):
            folded = _fold(name, *(number for number in known if number is not None))
            if folded is not None:
                return self.lift(folded)
        simple = _simplify(name, values, known)
        if simple is not None:
            return simple
        if name == "div" and known[1]:
            return self.apply("mul", values[0], 1 / known[1])
        lines = [value.line for value in values]
        return self.add(name, *(sorted(lines) if name in _COMMUTATIVE else lines))


class Value:
    """Recorded scalar."""

    __slots__ = ("graph", "line")

    def __init__(self, graph: Graph, line: int) -> None:
        self.graph = graph
        self.line = line

    @property
    def constant(self) -> float | None:
        """Return the number that this scalar is, or None."""
        operation = self.graph.operations[self.line]
        return float(operation.arguments[0]) if operation.name == "const" else None

    def __add__(self, other: Scalar) -> Value:
        return self.graph.apply("add", self, other)

    __radd__ = __add__

    def __mul__(self, other: Scalar) -> Value:
        return self.graph.apply("mul", self, other)

    __rmul__ = __mul__

    def __sub__(self, other: Scalar) -> Value:
        return self.graph.apply("sub", self, other)

    def __rsub__(self, other: Scalar) -> Value:
        return self.graph.apply("sub", other, self)

    def __truediv__(self, other: Scalar) -> Value:
        return self.graph.apply("div", self, other)

    def __rtruediv__(self, other: Scalar) -> Value:
        return self.graph.apply("div", other, self)

    def __neg__(self) -> Value:
        return self.graph.apply("neg", self)


class RecordingVocabulary:
    """Elementary functions that are recorded."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def exp(self, x: Scalar) -> Value:
        return self._graph.apply("exp", x)

    def tanh(self, x: Scalar) -> Value:
        return self._graph.apply("tanh", x)

    def sigmoid(self, x: Scalar) -> Value:
        return self._graph.apply("sigmoid", x)

    def erf(self, x: Scalar) -> Value:
        return self._graph.apply("erf", x)

    def sin(self, x: Scalar) -> Value:
        return self._graph.apply("sin", x)

    def cos(self, x: Scalar) -> Value:
        return self._graph.apply("cos", x)

    def sqrt(self, x: Scalar) -> Value:
        return self._graph.apply("sqrt", x)

    def abs(self, x: Scalar) -> Value:
        return self._graph.apply("abs", x)

    def relu(self, x: Scalar) -> Value:
        return self._graph.apply("relu", x)

    def clamp(self, x: Scalar, low: Scalar, high: Scalar) -> Value:
        return self._graph.apply("clamp", x, low, high)

    def floor(self, x: Scalar) -> Value:
        return self._graph.apply("floor", x)

    def less(self, x: Scalar, y: Scalar) -> Value:
        return self._graph.apply("less", x, y)

    def select(self, condition: Value, yes: Scalar, no: Scalar) -> Value:
        return self._graph.apply("select", condition, yes, no)


def _fold(name: str, *numbers: float) -> float | None:
    """Return the result of an operation on constants; None where it is left to the code."""
    match name, numbers:
        case "add", (a, b):
            return a + b
        case "sub", (a, b):
            return a - b
        case "mul", (a, b):
            return a * b
        case "div", (a, b) if b:
            return a / b
        case "neg", (a,):
            return -a
        case "abs", (a,):
            return abs(a)
        case "sqrt", (a,):
            return math.sqrt(a)
        case "sigmoid", (a,):
            return 1 / (1 + math.exp(-a))
        case "tanh", (a,):
            return math.tanh(a)
        case "relu", (a,):
            return max(a, 0.0)
    return None


def _simplify(name: str, values: list[Value], known: list[float | None]) -> Value | None:
    """Return the value of an operation with 0 or 1 that needs none; x * 0 is one, because NaN stays."""
    if name == "add" and 0 in known:
        return values[1 - known.index(0)]
    if name == "mul" and 1 in known:
        return values[1 - known.index(1)]
    if name == "sub" and known[1] == 0:
        return values[0]
    if name == "sub" and known[0] == 0:
        return -values[1]
    return None


def _record(definition: Definition) -> tuple[Graph, list[Value]]:
    graph = Graph()
    x = graph.add("x")
    inputs = [
        tuple(graph.add("input", index, k) for k in range(size))
        for index, size in enumerate(definition.all_sizes)
    ]
    return graph, [graph.lift(value) for value in definition(RecordingVocabulary(graph), x, *inputs)]


@lru_cache(maxsize=256)
def trace_values(definition: Definition) -> Program:
    """Return the code of the K values."""
    graph, values = _record(definition)
    return _select(graph, values)


@lru_cache(maxsize=256)
def trace_gradients(definition: Definition, wanted: tuple[bool, ...]) -> Program:
    """Return the code of the gradients of sum_j grad_j value_j.

    Args:
        definition: The functions.
        wanted: True for x, and for each input, if its gradient is needed.

    Returns:
        Program whose results are the gradients of x and of each scalar of the inputs, as far as needed.
    """
    graph, values = _record(definition)
    slopes = _accumulate(graph, values)
    leaves = [graph.add("x")] if wanted[0] else []
    for index, size in enumerate(definition.all_sizes):
        if wanted[1 + index]:
            leaves += [graph.add("input", index, k) for k in range(size)]
    return _select(graph, [slopes.get(leaf.line, graph.lift(0.0)) for leaf in leaves])


def _select(graph: Graph, results: Sequence[Value]) -> Program:
    """Return the program of the lines that the results need."""
    needed: set[int] = set()
    pending = [value.line for value in results]
    while pending:
        line = pending.pop()
        if line not in needed:
            needed.add(line)
            pending += graph.operations[line].lines
    per_point: set[int] = set()
    for line in sorted(needed):
        operation = graph.operations[line]
        if operation.name in ("x", "grad") or not per_point.isdisjoint(operation.lines):
            per_point.add(line)
    return Program(
        tuple(graph.operations),
        tuple(sorted(needed)),
        tuple(value.line for value in results),
        frozenset(per_point),
    )


def _accumulate(graph: Graph, values: Sequence[Value]) -> dict[int, Value]:
    """Return the derivative of sum_j grad_j value_j in each line, by line."""
    slopes: dict[int, Value] = {}

    def add(value: Value, slope: Value) -> None:
        if value.constant is None:
            slopes[value.line] = slopes[value.line] + slope if value.line in slopes else slope

    for index, value in enumerate(values):
        add(value, graph.add("grad", index))
    for line in range(max(value.line for value in values), -1, -1):
        operation = graph.operations[line]
        if line in slopes:
            parts = [Value(graph, part) for part in operation.lines]
            for part, slope in _differentiate(Value(graph, line), operation.name, parts, slopes[line]):
                add(part, slope)
    return slopes


def _differentiate(y: Value, name: str, parts: list[Value], slope: Value) -> list[tuple[Value, Value]]:
    """Return pairs of an argument of an operation and the slope that passes to it."""
    apply = y.graph.apply
    match name, parts:
        case "add", [a, b]:
            return [(a, slope), (b, slope)]
        case "sub", [a, b]:
            return [(a, slope), (b, -slope)]
        case "mul", [a, b]:
            return [(a, slope * b), (b, slope * a)]
        case "div", [a, b]:
            share = slope / b
            return [(a, share), (b, -(share * y))]
        case "neg", [a]:
            return [(a, -slope)]
        case "exp", [a]:
            return [(a, slope * y)]
        case "tanh", [a]:
            return [(a, slope * (1 - y * y))]
        case "sigmoid", [a]:
            return [(a, slope * (y * (1 - y)))]
        case "erf", [a]:
            return [(a, slope * (2 / math.sqrt(math.pi) * apply("exp", -(a * a))))]
        case "sin", [a]:
            return [(a, slope * apply("cos", a))]
        case "cos", [a]:
            return [(a, -(slope * apply("sin", a)))]
        case "sqrt", [a]:
            return [(a, slope * (0.5 / y))]
        case "abs", [a]:
            return [(a, slope * apply("sign", a))]
        case "relu", [a]:
            return [(a, apply("select", apply("at_most", a, 0.0), 0.0, slope))]
        case "clamp", [a, low, high]:
            above = apply("select", apply("at_most", high, a), 0.0, slope)
            return [(a, apply("select", apply("at_most", a, low), 0.0, above))]
        case "select", [condition, yes, no]:
            return [
                (yes, apply("select", condition, slope, 0.0)),
                (no, apply("select", condition, 0.0, slope)),
            ]
    return []  # leaves, and what is constant almost everywhere: floor, sign, conditions
