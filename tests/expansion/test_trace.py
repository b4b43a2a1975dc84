"""Recorded programs against the plain formula and its derivatives by autograd."""

import pytest
import torch

from kanvision.expansion.define import Definition, evaluate
from kanvision.expansion.trace import trace_gradients, trace_values

from .programs import COMPOSED, EVERYTHING, INPUTS, interpret

POINTS = torch.arange(-64, 65, dtype=torch.float64) / 16  # exact, so that no kink is met by rounding


def scalars(definition):
    return [[torch.tensor(v, dtype=torch.float64) for v in group] for group in INPUTS[definition]]


@pytest.mark.parametrize("definition", [EVERYTHING, COMPOSED], ids=["plain", "composed"])
def test_values_and_gradients(definition):
    """A wrong rule of differentiation, or a wrong order of the inputs of composed definitions."""
    x = POINTS.clone().requires_grad_()
    inputs = [torch.tensor(group, dtype=torch.float64).requires_grad_() for group in INPUTS[definition]]
    values = evaluate(definition, x, inputs, 1, 0)
    grads = torch.randn(values.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = interpret(trace_values(definition), POINTS, scalars(definition))
    torch.testing.assert_close(torch.stack(found, 1), values.detach())
    wanted = torch.autograd.grad(values, [x, *inputs], grads)
    program = trace_gradients(definition, (True,) * (1 + len(inputs)))
    to_x, *to_inputs = interpret(program, POINTS, scalars(definition), grads.unbind(1))
    torch.testing.assert_close(to_x, wanted[0])
    torch.testing.assert_close(torch.stack([slope.sum() for slope in to_inputs]), torch.cat(wanted[1:]))


def test_only_wanted_gradients_are_computed():
    program = trace_gradients(EVERYTHING, (True, False, False))
    assert len(program.results) == 1
    everything = trace_gradients(EVERYTHING, (True, True, True))
    assert program.num_operations < everything.num_operations
    assert len(everything.results) == 4


def test_constants_are_folded_and_equal_operations_exist_once():
    def function(m, x, c):
        half = 1 - 0.5
        return [m.tanh(x) * half + 0 * 1, 1 * m.tanh(x) / 4, m.sqrt(c[0]) * x]

    program = trace_values(Definition(function, sizes=(1,)))
    names = [program.operations[line].name for line in program.lines]
    assert names.count("tanh") == 1
    assert names.count("add") == names.count("div") == 0
    # the root of an input is computed once for all points
    (root,) = (line for line in program.lines if program.operations[line].name == "sqrt")
    assert root not in program.per_point
    assert program.num_operations == 4


def test_arguments_of_periodic_functions_are_known():
    program = trace_values(EVERYTHING)
    assert len(program.periodic_arguments) == 2


def test_equal_definitions_are_traced_once():
    assert trace_values(EVERYTHING) is trace_values(Definition(EVERYTHING.formula, sizes=(2, 1)))
