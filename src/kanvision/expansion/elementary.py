"""Elementary functions as definitions: squashes and activations, which compose with a basis; polynomials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from .define import Definition, Scalar, Vocabulary

__all__ = [
    "CLAMP",
    "GELU",
    "QUICK_GELU",
    "RELU",
    "SIGMOID",
    "SILU",
    "TANH",
    "TANH_GELU",
    "leaky_relu",
    "sigmoid_onto",
    "sum_powers",
    "tanh_onto",
]


def sum_powers(coefficients: Sequence[Scalar], x: Scalar) -> Scalar:
    """Return c_0 + c_1 x + ... + c_n x^n by Horner's rule, in the formula of a definition."""
    total = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return total


def _silu(m: Vocabulary, x: Scalar) -> list[Scalar]:
    return [x * m.sigmoid(x)]


def _gelu(m: Vocabulary, x: Scalar) -> list[Scalar]:
    return [0.5 * x * (1 + m.erf(x * math.sqrt(0.5)))]


def _tanh_gelu(m: Vocabulary, x: Scalar) -> list[Scalar]:
    return [0.5 * x * (1 + m.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x))))]


def _quick_gelu(m: Vocabulary, x: Scalar) -> list[Scalar]:
    return [x * m.sigmoid(1.702 * x)]


def _relu(m: Vocabulary, x: Scalar) -> list[Scalar]:
    return [m.relu(x)]


def _leaky_relu(m: Vocabulary, x: Scalar, slope: float) -> list[Scalar]:
    return [m.select(m.less(0.0, x), x, slope * x)]


def _tanh(m: Vocabulary, x: Scalar, middle: float, half: float) -> list[Scalar]:
    return [middle + half * m.tanh(x) if (middle, half) != (0, 1) else m.tanh(x)]


def _sigmoid(m: Vocabulary, x: Scalar, low: float, width: float) -> list[Scalar]:
    return [low + width * m.sigmoid(x) if (low, width) != (0, 1) else m.sigmoid(x)]


def _clamp(m: Vocabulary, x: Scalar, ends: tuple[Scalar, Scalar]) -> list[Scalar]:
    return [m.clamp(x, *ends)]


@lru_cache(maxsize=64)
def tanh_onto(low: float, high: float) -> Definition:
    """Return mid + half tanh(x), which maps the line onto (low, high)."""
    return Definition(_tanh, settings=(0.5 * (low + high), 0.5 * (high - low)))


@lru_cache(maxsize=64)
def sigmoid_onto(low: float, high: float) -> Definition:
    """Return low + (high - low) / (1 + exp(-x)), which maps the line onto (low, high)."""
    return Definition(_sigmoid, settings=(low, high - low))


def leaky_relu(slope: float) -> Definition:
    """Return x for x > 0, else slope x."""
    return Definition(_leaky_relu, settings=(slope,))


SILU = Definition(_silu)
GELU = Definition(_gelu)
TANH_GELU = Definition(_tanh_gelu)
QUICK_GELU = Definition(_quick_gelu)
RELU = Definition(_relu)
TANH = tanh_onto(-1.0, 1.0)
SIGMOID = sigmoid_onto(0.0, 1.0)
CLAMP = Definition(_clamp, sizes=(2,))
"""min(max(x, low), high) with one input, (low, high): the ends may move without new code."""
