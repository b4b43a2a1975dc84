"""Definitions that use the whole vocabulary, and an interpreter of programs."""

import torch

from kanvision.expansion.define import Definition


def everything(m, x, scale, shift):
    """Each elementary function at least once, kinks included, with one learned and one constant input."""
    z = (x - shift[0]) * scale[0]
    bounded = m.clamp(z, -2.0, 2.0)
    return [
        m.exp(-bounded) + m.tanh(z) / (1 + m.sigmoid(z)),
        m.sin(3 * z) * m.cos(z) - m.erf(0.5 * z),
        m.sqrt(1 + z * z) * scale[1] - m.abs(z + 0.3),
        m.relu(z) * m.relu(z) - (z - m.floor(z)),
        m.select(m.less(z, 0.25), 2 - z, z * z),
        1.0,
    ]


def square(m, x):
    return [x * x]


def halve(m, x, factor):
    return [m.tanh(x * factor[0])]


EVERYTHING = Definition(everything, sizes=(2, 1))
COMPOSED = Definition(everything, sizes=(2, 1), inner=Definition(halve, sizes=(1,)), outer=Definition(square))
INPUTS = {
    EVERYTHING: ((0.8, 1.7), (0.1,)),
    COMPOSED: ((0.8, 1.7), (0.1,), (0.5,)),
}

_TORCH = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "neg": torch.neg,
    "relu": torch.relu,
    "less": torch.lt,
    "at_most": torch.le,
    "sign": torch.sign,
    "floor": torch.floor,
    "select": torch.where,
    "clamp": torch.clamp,
    **{name: getattr(torch, name) for name in ("exp", "tanh", "sigmoid", "erf", "sin", "cos", "sqrt", "abs")},
}


def interpret(program, x, inputs, grads=()):
    """Results of a program on tensors of one dtype."""
    lines = {}
    for index in program.lines:
        operation = program.operations[index]
        match operation.name, operation.arguments:
            case "const", (value,):
                lines[index] = torch.tensor(value, dtype=x.dtype)
            case "x", ():
                lines[index] = x
            case "input", (which, k):
                lines[index] = inputs[which][k]
            case "grad", (which,):
                lines[index] = grads[which]
            case name, _:
                lines[index] = _TORCH[name](*(lines[line] for line in operation.lines))
    return [lines[index].expand_as(x) for index in program.results]
