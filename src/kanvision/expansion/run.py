"""Expansion of tensors that keeps only its inputs for the backward pass, alone or with a linear map.

Loops and blocks serve ordinary calls. Transforms, tracers and compilers get the plain formula, as ordinary
operations.

Shapes: B batch, C channels, K functions, *S space.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, cast

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from . import fused_conv, triton_kernels
from .arrangement import Arrangement
from .autocast import without_autocast
from .contraction import Contraction, split_weight
from .define import Definition, Scalar, Vocabulary, count_functions, evaluate
from .double_backward import plain_gradients
from .execute import compute_gradients, compute_values

__all__ = ["Branch", "compute_level", "contract", "expand", "is_ordinary"]

# Maps of a block, in bytes: what stays in the cache between the loop and the linear map.
_BLOCK_BYTES = 2**21
# On a GPU a block has to fill the device; it bounds the memory.
_GPU_BLOCK_BYTES = 2**28
# Points of a channel from which on a constant function is folded. For fewer, cutting the weights and joining
# their gradients costs more than its maps.
_FOLD_FROM = 256
_PLAIN_TYPES = (Tensor, torch.nn.Parameter)


class Branch(NamedTuple):
    """Linear map of expanded inputs.

    Args:
        definition: The functions of x, K of them.
        contraction: The linear map.
        level: Value of a constant first function, which has weights but is no part of the definition; None
            without.
    """

    definition: Definition
    contraction: Contraction
    level: float | None = None

    @property
    def num_functions(self) -> int:
        """Return K."""
        return count_functions(self.definition)

    @property
    def num_weights(self) -> int:
        """Return the number of weights of an edge, K'."""
        return self.num_functions + int(self.level is not None)


def contract(
    branches: Sequence[Branch], arguments: Sequence[Sequence[Tensor | None]], bias: Tensor | None
) -> Tensor:
    """Return the sum of all branches and the bias.

    Args:
        branches: The branches.
        arguments: For each branch points, weights (O, C/G K', *k), factors of the weights of each edge
            (O, C/G, *k) or None, and inputs of the definition.
        bias: Summand of each output, (O,).
    """
    tensors = [tensor for group in arguments for tensor in group]
    given = [tensor for tensor in (*tensors, bias) if tensor is not None]
    if not is_ordinary(given):
        return _contract_plainly(branches, bias, tensors)
    plan = tuple(
        [_unfold(branch, cast(Tensor, group[0])) for branch, group in zip(branches, arguments, strict=True)]
    )
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given):
        return cast(Tensor, _Contract.apply(plan, bias, *tensors))
    return _contract_blocks(plan, bias, tensors, _find_autocast_dtype(given[0]))


def _unfold(branch: Branch, x: Tensor) -> Branch:
    """Return the branch with its constant function among the others, where cutting weights costs more."""
    if branch.level is None or x.numel() >= _FOLD_FROM * x.shape[branch.contraction.channel_dim]:
        return branch
    return Branch(_with_constant(branch.definition, branch.level), branch.contraction)


@lru_cache(maxsize=1024)
def _with_constant(definition: Definition, level: float) -> Definition:
    """Return the definition with a constant first function."""
    sizes, settings = definition.all_sizes, (definition, level)
    return Definition(_prepend, sizes=sizes, settings=settings, is_traceable=definition.has_trace)


def _prepend(m: Vocabulary, x: Scalar, *inputs: Any) -> list[Scalar]:
    *inputs, definition, level = inputs
    return [level, *definition(m, x, *inputs)]


def expand(definition: Definition, inputs: Sequence[Tensor], x: Tensor, channel_dim: int) -> Tensor:
    """Return the values of all functions, with K inserted after the axis of the channels.

    Args:
        definition: The functions.
        inputs: Inputs of the definition.
        x: Points in float32 or float64.
        channel_dim: Axis of the channels, not negative.
    """
    if not is_ordinary([x, *inputs]):
        return evaluate(definition, x, inputs, channel_dim + 1, channel_dim)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *inputs)):
        return cast(Tensor, _Expand.apply(definition, channel_dim, x, *inputs))
    return _expand_values(definition, x, inputs, channel_dim)


@lru_cache(maxsize=64)
def compute_level(activation: Definition | None) -> float:
    """Return the value of an activation at 1, the level of a constant function."""
    if activation is None:
        return 1.0
    one = torch.ones(1, dtype=torch.float64, device="cpu")
    return float(evaluate(activation, one, (), 1, 0))


def is_ordinary(tensors: Sequence[Tensor]) -> bool:
    """Return True if no transform, tracer or compiler observes the operations."""
    return (
        not torch.compiler.is_compiling()
        and not torch._C._is_tracing()
        and torch._C._functorch.peek_interpreter_stack() is None
        and _get_current_dispatch_mode() is None
        and forward_ad._current_level < 0
        and all(type(tensor) in _PLAIN_TYPES for tensor in tensors)
        and tensors[0].device.type != "meta"
        and tensors[0].numel() > 0
    )


def _find_autocast_dtype(x: Tensor) -> torch.dtype | None:
    """Return the dtype of linear maps under autocast, or None."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None


def _exact(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


class _Arguments(NamedTuple):
    """Tensors of a branch, and the index of the first one among all."""

    x: Tensor
    weight: Tensor
    scale: Tensor | None
    inputs: tuple[Tensor, ...]
    first: int


def _walk(plan: Sequence[Branch], tensors: Sequence[Tensor | None]) -> Iterator[tuple[Branch, _Arguments]]:
    first = 0
    for branch in plan:
        end = first + 3 + len(branch.definition.all_sizes)
        x, weight, scale, *inputs = tensors[first:end]
        yield branch, _Arguments(*cast(Any, (x, weight, scale, tuple(inputs), first)))
        first = end


def _scale(branch: Branch, weight: Tensor, scale: Tensor | None) -> Tensor:
    """Return the weights times the factors of their edges."""
    if scale is None:
        return weight
    by_edge = torch.unflatten(weight, 1, (-1, branch.num_weights))  # (O, C/G, K', *k)
    return (by_edge * scale.unsqueeze(2)).flatten(1, 2)


def _contract_plainly(
    plan: Sequence[Branch], bias: Tensor | None, tensors: Sequence[Tensor | None]
) -> Tensor:
    """Return the result in ordinary operations."""
    total: Tensor | None = None
    for branch, (x, weight, scale, inputs, _) in _walk(plan, tensors):
        weight = _scale(branch, weight, scale)
        channel_dim = branch.contraction.channel_dim % x.ndim
        with without_autocast(x.device.type):
            values = evaluate(branch.definition, _exact(x), inputs, channel_dim + 1, channel_dim).to(x.dtype)
        y = branch.contraction.apply_plainly(values, weight, bias if total is None else None, branch.level)
        total = y if total is None else total + y
    assert total is not None
    return total


def _contract_blocks(
    plan: Sequence[Branch], bias: Tensor | None, tensors: Sequence[Tensor | None], dtype: torch.dtype | None
) -> Tensor:
    """Return the result, computed in blocks; linear maps in `dtype`, or in that of x."""
    total: Tensor | None = None
    first = cast(Tensor, tensors[0])
    with without_autocast(first.device.type):
        for branch, (x, weight, scale, inputs, _) in _walk(plan, tensors):
            prepared = _Prepared.of(branch, x, _scale(branch, weight, scale), dtype)
            shift = None if bias is None or total is not None else bias.to(prepared.weight.dtype)
            if fused_conv.is_usable(branch.contraction, branch.definition, prepared.points):
                y = fused_conv.convolve(
                    branch.definition, branch.contraction, prepared.points, prepared.weight, inputs, shift
                )
            else:
                y = _contract_maps(branch, prepared, inputs, shift)
            if prepared.constant is not None and branch.level is not None:
                y.add_(branch.contraction.map_level(branch.level, prepared.constant, prepared.points))
            total = y if total is None else total.add_(y)
    assert total is not None
    return plan[0].contraction.shape(total, first)


def _contract_maps(
    branch: Branch, prepared: _Prepared, inputs: Sequence[Tensor], shift: Tensor | None
) -> Tensor:
    """Return the result of a branch without its constant function, block by block."""
    parts = []
    for block in prepared.blocks:
        maps, order = branch.contraction.allocate(block, prepared.num_functions)
        compute_values(branch.definition, block, inputs, order, maps)
        parts.append(branch.contraction.apply(maps.to(prepared.weight.dtype), prepared.weight, shift))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


class _Prepared(NamedTuple):
    """Points and weights of a branch in the order of its maps.

    Args:
        num_functions: Number of functions of x, K.
        points: Contiguous points.
        blocks: The points in blocks.
        weight: Weights of the functions of x.
        constant: Sum of the weights of the constant function over the channels of a group, (O, 1, *k), if it
            is folded.
    """

    num_functions: int
    points: Tensor
    blocks: tuple[Tensor, ...]
    weight: Tensor
    constant: Tensor | None

    @classmethod
    def of(cls, branch: Branch, x: Tensor, weight: Tensor, dtype: torch.dtype | None) -> _Prepared:
        """Prepare the tensors of a branch; linear maps have `dtype`, or that of the weights."""
        count, folds = branch.num_functions, branch.level is not None
        is_exact = triton_kernels.is_usable(branch.definition, x)  # in any precision of storage
        points = branch.contraction.order(x if is_exact else _exact(x))
        given = weight if dtype is None else weight.to(dtype)
        packed = branch.contraction.pack(given, count, folds)
        # Maps of a block are as large as a cache, or as the weights that each block reads.
        block_bytes = _GPU_BLOCK_BYTES if x.is_cuda else _BLOCK_BYTES
        size = max(block_bytes // points.element_size(), packed.numel())
        length = max(1, size * len(points) // max(1, points.numel() * count))
        blocks = (points,) if length >= len(points) else torch.split(points, length)
        constant = split_weight(given, count, True)[:, 0].sum(1, keepdim=True) if folds else None
        return cls(count, points, blocks, packed, constant)


class _Contract(torch.autograd.Function):
    """Sum of branches that keeps points, weights and inputs."""

    @staticmethod
    def forward(ctx: Any, plan: tuple[Branch, ...], bias: Tensor | None, *tensors: Tensor) -> Tensor:
        ctx.plan = plan
        ctx.dtype = _find_autocast_dtype(tensors[0])
        ctx.save_for_backward(bias, *tensors)
        return _contract_blocks(plan, bias, tensors, ctx.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        bias, *tensors = ctx.saved_tensors
        needs = ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():
            return (None, *_differentiate_plainly(ctx.plan, grad, bias, tensors, needs))
        found: list[Tensor | None] = [None] * len(needs)
        with without_autocast(grad.device.type):
            for branch, arguments in _walk(ctx.plan, tensors):
                first = 1 + arguments.first
                wanted = needs[first : first + 3 + len(arguments.inputs)]
                found[first : first + len(wanted)] = _differentiate(
                    branch, arguments, grad, wanted, ctx.dtype
                )
            if needs[0]:
                points = ctx.plan[0].contraction.flatten(grad)
                found[0] = points.sum([axis for axis in range(points.ndim) if axis != 1]).to(bias.dtype)
        return (None, *found)


def _differentiate(
    branch: Branch, arguments: _Arguments, grad: Tensor, wanted: Sequence[bool], dtype: torch.dtype | None
) -> list[Tensor | None]:
    """Return the gradients of the points, the weights and the inputs of a branch, None where not wanted."""
    contraction, definition = branch.contraction, branch.definition
    x, weight, scale, inputs, _ = arguments
    prepared = _Prepared.of(branch, x, _scale(branch, weight, scale), dtype)
    grad = contraction.flatten(grad).to(prepared.weight.dtype)
    needs = (wanted[0], wanted[1] or wanted[2], *wanted[3:])
    if fused_conv.is_usable(contraction, definition, prepared.points):
        to_points, to_packed, *to_inputs = fused_conv.differentiate(
            definition, contraction, prepared.points, prepared.weight, inputs, grad, needs
        )
    else:
        to_points, to_packed, *to_inputs = _differentiate_maps(branch, prepared, inputs, grad, needs)
    to_x = None if to_points is None else contraction.restore(to_points, x).to(x.dtype)
    to_weight, to_scale = _join_weight(branch, prepared, weight, grad, to_packed), None
    if scale is not None and to_weight is not None:
        by_edge = torch.unflatten(weight, 1, (-1, branch.num_weights))
        to_scale = (by_edge * torch.unflatten(to_weight, 1, (-1, branch.num_weights))).sum(2)
        to_weight = _scale(branch, to_weight, scale)
    return [to_x, to_weight, to_scale, *to_inputs]


def _differentiate_maps(
    branch: Branch, prepared: _Prepared, inputs: Sequence[Tensor], grad: Tensor, wanted: Sequence[bool]
) -> list[Tensor | None]:
    """Return the gradients of the points, the packed weights and the inputs, block by block."""
    contraction, definition = branch.contraction, branch.definition
    of_inputs = (wanted[0], *wanted[2:])
    to_points = torch.empty_like(prepared.points) if wanted[0] else None
    to_packed: Tensor | None = None
    to_inputs: list[Tensor | None] = [None] * len(inputs)
    start = 0
    for block in prepared.blocks:
        place = slice(start, start + len(block))
        start = place.stop
        maps, order = contraction.allocate(block, prepared.num_functions)
        if wanted[1]:
            compute_values(definition, block, inputs, order, maps)
        to_maps, more = contraction.differentiate(
            grad[place], maps.to(grad.dtype), prepared.weight, (any(of_inputs), wanted[1])
        )
        to_packed = more if to_packed is None or more is None else to_packed.add_(more)
        if to_maps is not None:
            out = None if to_points is None else to_points[place]
            parts = compute_gradients(definition, block, inputs, order, to_maps.to(block), of_inputs, out)
            to_inputs = [
                b if a is None or b is None else a + b for a, b in zip(to_inputs, parts, strict=True)
            ]
    return [to_points, to_packed, *to_inputs]


def _join_weight(
    branch: Branch, prepared: _Prepared, weight: Tensor, grad: Tensor, to_packed: Tensor | None
) -> Tensor | None:
    """Return the gradient of the weights from that of the packed ones and that of the result."""
    if to_packed is None:
        return None
    contraction, folds = branch.contraction, branch.level is not None
    if not folds and contraction.keeps_order:
        return to_packed.to(weight.dtype)
    found = torch.empty_like(weight, memory_format=torch.contiguous_format)
    by_function = split_weight(found, prepared.num_functions, folds)
    by_function[:, folds:] = contraction.unpack(to_packed, prepared.num_functions)
    if branch.level is not None and prepared.constant is not None:
        by_function[:, 0] = contraction.differentiate_level(
            branch.level, grad, prepared.constant, prepared.points
        )
    return found


def _differentiate_plainly(
    plan: tuple[Branch, ...], grad: Tensor, bias: Tensor | None, tensors: list[Tensor], needs: Sequence[bool]
) -> list[Tensor | None]:
    """Return the gradients in ordinary operations, which can be differentiated again."""
    return plain_gradients(lambda b, *given: _contract_plainly(plan, b, given), [bias, *tensors], needs, grad)


class _Expand(torch.autograd.Function):
    """Values of a definition that keeps points and inputs."""

    @staticmethod
    def forward(ctx: Any, definition: Definition, channel_dim: int, x: Tensor, *inputs: Tensor) -> Tensor:
        ctx.definition, ctx.channel_dim = definition, channel_dim
        ctx.save_for_backward(x, *inputs)
        return _expand_values(definition, x, inputs, channel_dim)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, *inputs = ctx.saved_tensors
        wanted = ctx.needs_input_grad[2:]
        definition, dim = ctx.definition, ctx.channel_dim
        if torch.is_grad_enabled():

            def formula(x: Tensor, *inputs: Tensor) -> Tensor:
                return evaluate(definition, x, inputs, dim + 1, dim)

            return (None, None, *plain_gradients(formula, [x, *inputs], wanted, grad))
        points, order = _arrange(x, dim, grad.shape[dim + 1])
        inner = grad.movedim(dim + 1, dim) if order.channels_inside else grad
        to_x = torch.empty_like(points) if wanted[0] else None
        found = compute_gradients(definition, points, inputs, order, inner.contiguous(), wanted, to_x)
        return (None, None, to_x, *found)


def _arrange(x: Tensor, channel_dim: int, num_functions: int) -> tuple[Tensor, Arrangement]:
    """Return contiguous points, and the arrangement of their values."""
    channels = x.shape[channel_dim]
    inside = channel_dim == x.ndim - 1
    length = channels if inside else math.prod(x.shape[channel_dim + 1 :])
    return x.contiguous(), Arrangement(x.numel() // length, length, num_functions, channels, inside)


def _expand_values(definition: Definition, x: Tensor, inputs: Sequence[Tensor], channel_dim: int) -> Tensor:
    num_functions = count_functions(definition)
    points, order = _arrange(x, channel_dim, num_functions)
    dim = channel_dim + (not order.channels_inside)
    out = x.new_empty([*x.shape[:dim], num_functions, *x.shape[dim:]])
    compute_values(definition, points, inputs, order, out)
    return out.movedim(channel_dim, channel_dim + 1) if order.channels_inside else out
