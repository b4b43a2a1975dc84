"""Plain formulas of B-splines, on tensors."""

from kanvision.expansion.define import evaluate
from kanvision.ops.bspline import define_bspline


def bspline(x, knots, degree, dim, *, uniform, evaluation="auto"):
    """All functions, with K inserted at an axis."""
    definition = define_bspline(len(knots), degree, uniform=uniform, evaluation=evaluation)
    return evaluate(definition, x, (knots,), dim, 0)


def cox_de_boor(x, knots, degree, dim):
    return bspline(x, knots, degree, dim, uniform=False)
