"""Branches of a layer: functions of its inputs and their linear map.

Small branches are changed before they run: fewer operations count more than fewer products.

Shapes: C channels, G groups, K functions, O outputs, *k kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias, cast

import torch
from torch import Tensor

from .contraction import Contraction
from .define import Definition, Scalar, Vocabulary, count_functions, evaluate

__all__ = ["Arguments", "Branch", "compute_level", "join_weights", "simplify", "split_gradient"]

# Points of a channel from which on a constant function is folded. For fewer, cutting the weights and joining
# their gradients costs more than its maps.
_FOLD_FROM = 256
# Points and weights up to which branches are one: for more, joining the weights costs more than operations.
_MERGE_UP_TO = 2**13

Arguments: TypeAlias = Sequence[Tensor | None]
"""Tensors of a branch: points, weights (O, C/G K', *k) with K' functions, factors of the weights of each edge
(O, C/G, *k) or None, and inputs of the definition."""


class Branch(NamedTuple):
    """Linear map of expanded inputs.

    Args:
        definition: The functions of x, K of them.
        contraction: The linear map.
        level: Value of a constant first function, which has weights but is no part of the definition; None
            without.
        parts: Number of functions of each tensor of weights, if there are several. All but the first follow
            the factors.
    """

    definition: Definition
    contraction: Contraction
    level: float | None = None
    parts: tuple[int, ...] = ()

    @property
    def num_functions(self) -> int:
        """Return K."""
        return count_functions(self.definition)

    @property
    def num_weights(self) -> int:
        """Return the number of weights of an edge, K'."""
        return self.num_functions + int(self.level is not None)

    @property
    def num_inputs(self) -> int:
        """Return the number of inputs of the definition."""
        return len(self.definition.all_sizes)


@lru_cache(maxsize=64)
def compute_level(activation: Definition | None) -> float:
    """Return the value of an activation at 1, the level of a constant function."""
    if activation is None:
        return 1.0
    one = torch.ones(1, dtype=torch.float64, device="cpu")
    return float(evaluate(activation, one, (), 1, 0))


def simplify(
    branches: Sequence[Branch], arguments: Sequence[Arguments]
) -> tuple[tuple[Branch, ...], list[Tensor | None]]:
    """Return branches with the same sum that take fewer operations, and all their tensors.

    For few points a constant function is not folded, and two small branches of the same points are one.
    """
    pairs = zip(branches, arguments, strict=True)
    plan = tuple([_unfold(branch, cast(Tensor, group[0])) for branch, group in pairs])
    if len(plan) != 2 or not _are_mergeable(plan, arguments):
        return plan, [tensor for group in arguments for tensor in group]
    (x, weight, scale, *inputs), (_, other, _, *others) = arguments
    definition, counts = _concatenate(plan[0].definition, plan[1].definition)
    return (Branch(definition, plan[0].contraction, None, counts),), [
        x,
        weight,
        scale,
        other,
        *inputs,
        *others,
    ]


def _unfold(branch: Branch, x: Tensor) -> Branch:
    if branch.level is None or x.numel() >= _FOLD_FROM * x.shape[branch.contraction.channel_dim]:
        return branch
    return Branch(_prepend(branch.definition, branch.level), branch.contraction)


def _are_mergeable(plan: Sequence[Branch], arguments: Sequence[Arguments]) -> bool:
    (x, weight, scale, *_), (points, _, other_scale, *_) = arguments
    assert x is not None
    assert weight is not None
    return (
        x is points
        and x.numel() <= _MERGE_UP_TO
        and weight.numel() <= _MERGE_UP_TO
        and plan[0].level is None
        and plan[1].level is None
        and scale is None
        and other_scale is None
        and plan[0].definition.has_trace
        and plan[1].definition.has_trace
        and plan[0].contraction == plan[1].contraction
    )


def join_weights(branch: Branch, weights: Sequence[Tensor]) -> Tensor:
    """Return all weights of a branch as one tensor, (O, C/G K', *k)."""
    if not branch.parts:
        return weights[0]
    outputs, _, *kernel = weights[0].shape
    by_edge = [
        weight.view(outputs, -1, count, *kernel) for weight, count in zip(weights, branch.parts, strict=True)
    ]
    return torch.cat(by_edge, 2).flatten(1, 2)


def split_gradient(branch: Branch, grad: Tensor | None) -> Sequence[Tensor | None]:
    """Return the gradients of the weights of a branch from that of `join_weights`."""
    if not branch.parts or grad is None:
        return [grad] * max(1, len(branch.parts))
    by_edge = torch.unflatten(grad, 1, (-1, sum(branch.parts)))
    return [part.flatten(1, 2) for part in torch.split(by_edge, list(branch.parts), 2)]


@lru_cache(maxsize=1024)
def _prepend(definition: Definition, level: float) -> Definition:
    """Return the definition with a constant first function."""
    return Definition(
        _list_values, definition.all_sizes, (level, definition), is_traceable=definition.has_trace
    )


@lru_cache(maxsize=1024)
def _concatenate(first: Definition, second: Definition) -> tuple[Definition, tuple[int, int]]:
    """Return the functions of two definitions as one, and their numbers."""
    sizes = first.all_sizes + second.all_sizes
    counts = count_functions(first), count_functions(second)
    return Definition(_list_values, sizes, (first, second)), counts


def _list_values(m: Vocabulary, x: Scalar, *rest: Any) -> list[Scalar]:
    """Return the values of two parts, definitions or constants, which come last, after the inputs."""
    *inputs, first, second = rest
    values: list[Scalar] = []
    for part in (first, second):
        if isinstance(part, Definition):
            count = len(part.all_sizes)
            values += part(m, x, *inputs[:count])
            inputs = inputs[count:]
        else:
            values.append(part)
    return values
