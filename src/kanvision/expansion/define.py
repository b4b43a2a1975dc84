"""Definitions of univariate functions: one Python function over scalars for each basis.

Shapes: C channels, K functions.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

__all__ = [
    "Definition",
    "Formula",
    "Scalar",
    "Vocabulary",
    "compose",
    "count_functions",
    "evaluate",
    "is_per_channel",
]

Scalar: TypeAlias = Any
"""A number, a tensor of them, or a recorded value: what supports +, -, * and / with its kind and floats."""


class Vocabulary(Protocol):
    """Elementary functions that a formula may use besides + - * /, for one kind of scalars.

    All propagate NaN except comparisons, which are false for it.
    """

    def exp(self, x: Scalar) -> Scalar:
        """Return e^x."""

    def tanh(self, x: Scalar) -> Scalar:
        """Return the hyperbolic tangent of x."""

    def sigmoid(self, x: Scalar) -> Scalar:
        """Return 1 / (1 + exp(-x))."""

    def erf(self, x: Scalar) -> Scalar:
        """Return the error function of x."""

    def sin(self, x: Scalar) -> Scalar:
        """Return the sine of x."""

    def cos(self, x: Scalar) -> Scalar:
        """Return the cosine of x."""

    def sqrt(self, x: Scalar) -> Scalar:
        """Return the square root of x."""

    def abs(self, x: Scalar) -> Scalar:
        """Return |x|, with slope 0 at 0."""

    def relu(self, x: Scalar) -> Scalar:
        """Return max(x, 0), with slope 0 at 0."""

    def clamp(self, x: Scalar, low: Scalar, high: Scalar) -> Scalar:
        """Return min(max(x, low), high); the gradient reaches x only, where low < x < high."""

    def floor(self, x: Scalar) -> Scalar:
        """Return the largest integer that is not above x, without gradient."""

    def less(self, x: Scalar, y: Scalar) -> Scalar:
        """Return the condition x < y."""

    def select(self, condition: Scalar, yes: Scalar, no: Scalar) -> Scalar:
        """Return `yes` where the condition holds, else `no`."""


Formula: TypeAlias = Callable[..., Sequence[Scalar]]
"""Function (vocabulary, x, *inputs, *settings) -> values; an input is a tuple of scalars."""


@dataclass(frozen=True)
class Definition:
    """K functions of one variable, written once over scalars.

    On tensors the formula is the plain formula: any device, dtype, transform and order of derivative. Traced
    (`kanvision.expansion.trace`), it gives straight-line code for the values and the gradients, from which
    loops are generated. Equal definitions have equal code, so that loops are built once.

    The values are outer(formula(inner(x))), with the inputs of the formula before those of `inner`.

    Args:
        formula: Function (m, x, *inputs, *settings) that returns K values; `m` is the vocabulary. A value may
            be a float.
        sizes: Number of scalars in each input. Inputs are constants and learned parameters, which may differ
            between channels.
        settings: Further arguments of the formula, which are constants of the code.
        inner: Definition with one value that is applied first, such as a squash.
        outer: Definition with one value and no inputs that is applied to each value, such as an activation.
        is_traceable: False if the formula runs on tensors only.
    """

    formula: Formula
    sizes: tuple[int, ...] = ()
    settings: tuple[Hashable, ...] = ()
    inner: Definition | None = None
    outer: Definition | None = None
    is_traceable: bool = True

    all_sizes: tuple[int, ...] = field(init=False, compare=False)
    """Number of scalars in each input, those of `inner` last."""
    has_trace: bool = field(init=False, compare=False)
    """True if all parts can be traced."""
    _hash: int = field(init=False, compare=False, repr=False, default=0)

    def __post_init__(self) -> None:
        """Derive what each call needs."""
        inner = () if self.inner is None else self.inner.all_sizes
        object.__setattr__(self, "all_sizes", self.sizes + inner)
        parts = (self.inner, self.outer)
        has_trace = self.is_traceable and all(part is None or part.has_trace for part in parts)
        object.__setattr__(self, "has_trace", has_trace)

    def __hash__(self) -> int:
        """Return a hash that is computed once: definitions are keys in each call of a layer."""
        if not self._hash:
            parts = (self.formula, self.sizes, self.settings, self.inner, self.outer)
            object.__setattr__(self, "_hash", hash(parts))
        return self._hash

    def __call__(self, m: Vocabulary, x: Scalar, *inputs: Sequence[Scalar]) -> list[Scalar]:
        """Return the K values at x."""
        own = len(self.sizes)
        if self.inner is not None:
            (x,) = self.inner(m, x, *inputs[own:])
        values = self.formula(m, x, *inputs[:own], *self.settings)
        if self.outer is None:
            return list(values)
        return [self.outer(m, value)[0] for value in values]


@lru_cache(maxsize=1024)
def compose(definition: Definition, inner: Definition | None, outer: Definition | None) -> Definition:
    """Return a definition with a squash and an activation."""
    return replace(definition, inner=inner, outer=outer)


class TensorVocabulary:
    """Elementary functions of tensors, in one dtype."""

    def __init__(self, like: Tensor) -> None:
        self._dtype = like.dtype
        self._device = like.device

    def _tensor(self, x: Scalar) -> Tensor:
        return x if isinstance(x, Tensor) else torch.tensor(x, dtype=self._dtype, device=self._device)

    def exp(self, x: Scalar) -> Tensor:
        return torch.exp(self._tensor(x))

    def tanh(self, x: Scalar) -> Tensor:
        return torch.tanh(self._tensor(x))

    def sigmoid(self, x: Scalar) -> Tensor:
        return torch.sigmoid(self._tensor(x))

    def erf(self, x: Scalar) -> Tensor:
        return torch.erf(self._tensor(x))

    def sin(self, x: Scalar) -> Tensor:
        return torch.sin(self._tensor(x))

    def cos(self, x: Scalar) -> Tensor:
        return torch.cos(self._tensor(x))

    def sqrt(self, x: Scalar) -> Tensor:
        return torch.sqrt(self._tensor(x))

    def abs(self, x: Scalar) -> Tensor:
        return torch.abs(self._tensor(x))

    def relu(self, x: Scalar) -> Tensor:
        return torch.relu(self._tensor(x))

    def clamp(self, x: Scalar, low: Scalar, high: Scalar) -> Tensor:
        if isinstance(low, Tensor) or isinstance(high, Tensor):
            return self._tensor(x).clamp(self._tensor(low).detach(), self._tensor(high).detach())
        return self._tensor(x).clamp(low, high)

    def floor(self, x: Scalar) -> Tensor:
        return torch.floor(self._tensor(x))

    def less(self, x: Scalar, y: Scalar) -> Tensor:
        return torch.lt(self._tensor(x), y)

    def select(self, condition: Tensor, yes: Scalar, no: Scalar) -> Tensor:
        chosen: Tensor = torch.where(condition, yes, no)
        return chosen.to(self._dtype)


def evaluate(
    definition: Definition, x: Tensor, inputs: Sequence[Tensor], dim: int, channel_dim: int
) -> Tensor:
    """Return the values by the plain formula, differentiable to any order.

    Args:
        definition: The functions.
        x: Points, floating point.
        inputs: Tensors of any shape with as many entries as scalars, or (C, n) for scalars of each channel.
        dim: Axis of the result with the functions.
        channel_dim: Axis of x with the channels.

    Returns:
        Shape of `x` with K inserted at `dim`.
    """
    scalars = [_split(values.to(x), x.ndim - 1 - channel_dim) for values in inputs]
    values = definition(TensorVocabulary(x), x, *scalars)
    return torch.stack([_spread(value, x) for value in values], dim)


def _spread(value: Scalar, x: Tensor) -> Tensor:
    """Return a value in the shape of x; a constant has a gradient too, of 0."""
    if isinstance(value, Tensor):
        return value.expand_as(x)
    return torch.where(torch.zeros_like(x, dtype=torch.bool), x, torch.full_like(x, value))


@lru_cache(maxsize=1024)
def count_functions(definition: Definition) -> int:
    """Return the number of functions, K."""
    zero = torch.zeros((), device="cpu")
    return len(definition(TensorVocabulary(zero), zero, *((zero,) * size for size in definition.all_sizes)))


def is_per_channel(values: Tensor) -> bool:
    """Return True if an input has scalars of each channel, (C, n)."""
    return values.ndim == 2 and values.shape[0] > 1


def _split(values: Tensor, num_trailing: int) -> tuple[Tensor, ...]:
    """Return the scalars of an input, each of which broadcasts against x."""
    if is_per_channel(values):
        return values.reshape(*values.shape, *(1,) * num_trailing).unbind(1)
    return values.reshape(-1).unbind(0)
