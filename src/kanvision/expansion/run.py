"""Sum of linear maps of expanded inputs, which keeps only its inputs for the backward pass.

Loops and blocks serve ordinary calls. Transforms, tracers and compilers get the plain formula, as ordinary
operations.

Shapes: B batch, C channels, K functions, *S space.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from . import fused_conv, triton_kernels
from .autocast import without_autocast
from .branch import Arguments, Branch, join_weights, simplify, split_gradient
from .contraction import split_weight
from .define import evaluate
from .double_backward import plain_gradients
from .execute import compute_gradients, compute_values
from .ordinary import is_ordinary

__all__ = ["contract"]

# Maps of a block, in bytes: what stays in the cache between the loop and the linear map.
_BLOCK_BYTES = 2**21
# On a GPU a block has to fill the device; it bounds the memory.
_GPU_BLOCK_BYTES = 2**28


def contract(branches: Sequence[Branch], arguments: Sequence[Arguments], bias: Tensor | None) -> Tensor:
    """Return the sum of all branches and the bias, (O,)."""
    given = [tensor for group in (*arguments, (bias,)) for tensor in group if tensor is not None]
    if not is_ordinary(given):
        return _contract_plainly(branches, bias, [tensor for group in arguments for tensor in group])
    plan, tensors = simplify(branches, arguments)
    if torch.is_grad_enabled() and any([tensor.requires_grad for tensor in given]):
        return cast(Tensor, _Contract.apply(plan, bias, *tensors))
    return _contract_blocks(plan, bias, tensors, _find_autocast_dtype(given[0]))


def _find_autocast_dtype(x: Tensor) -> torch.dtype | None:
    """Return the dtype of linear maps under autocast, or None."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None


def _cast(x: Tensor, dtype: torch.dtype | None) -> Tensor:
    return x if dtype is None or x.dtype is dtype else x.to(dtype)


def _exact(x: Tensor) -> Tensor:
    return x if x.dtype is torch.float32 or x.dtype is torch.float64 else x.float()


class _Tensors(NamedTuple):
    """Tensors of a branch."""

    x: Tensor
    weights: list[Tensor]
    scale: Tensor | None
    inputs: list[Tensor]


def _walk(plan: Sequence[Branch], tensors: Sequence[Tensor | None]) -> Iterator[tuple[Branch, _Tensors]]:
    first = 0
    for branch in plan:
        inputs = first + 2 + max(1, len(branch.parts))
        end = inputs + branch.num_inputs
        x, weight, scale, *others = tensors[first:inputs]
        yield branch, _Tensors(*cast(Any, (x, [weight, *others], scale, tensors[inputs:end])))
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
    for branch, (x, weights, scale, inputs) in _walk(plan, tensors):
        weight = _scale(branch, join_weights(branch, weights), scale)
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
        for branch, given in _walk(plan, tensors):
            prepared = _prepare(branch, given, dtype)
            shift = None if bias is None or total is not None else _cast(bias, prepared.weight.dtype)
            if fused_conv.is_usable(branch.contraction, branch.definition, prepared.points):
                y = fused_conv.convolve(
                    branch.definition,
                    branch.contraction,
                    prepared.points,
                    prepared.weight,
                    given.inputs,
                    shift,
                )
            else:
                y = _contract_maps(branch, prepared, given.inputs, shift)
            if prepared.constant is not None and branch.level is not None:
                y.add_(branch.contraction.map_level(branch.level, prepared.constant, prepared.points))
            total = y if total is None else total.add_(y)
    assert total is not None
    return plan[0].contraction.shape(total, first)


class _Prepared(NamedTuple):
    """Points and weights of a branch in the order of its maps.

    Args:
        points: Contiguous points.
        length: Number of samples or rows of a block.
        weight: Weights of the functions of x.
        constant: Sum of the weights of the constant function over the channels of a group, (O, 1, *k), if it
            is folded.
    """

    points: Tensor
    length: int
    weight: Tensor
    constant: Tensor | None

    def split(self, x: Tensor | None) -> Sequence[Any]:
        """Return a tensor in blocks of samples or rows."""
        count = self.points.shape[0]
        if self.length >= count:
            return (x,)
        return [None] * -(-count // self.length) if x is None else torch.split(x, self.length)


def _prepare(branch: Branch, given: _Tensors, dtype: torch.dtype | None) -> _Prepared:
    """Prepare the tensors of a branch; linear maps have `dtype`, or that of the weights."""
    definition, contraction, count = branch.definition, branch.contraction, branch.num_functions
    folds = branch.level is not None
    is_exact = triton_kernels.is_usable(definition, given.x)  # in any precision of storage
    points = contraction.order(given.x if is_exact else _exact(given.x))
    weight = _cast(_scale(branch, join_weights(branch, given.weights), given.scale), dtype)
    packed = contraction.pack(weight, count, folds)
    # Maps of a block are as large as a cache, or as the weights that each block reads.
    block_bytes = _GPU_BLOCK_BYTES if points.is_cuda else _BLOCK_BYTES
    size = max(block_bytes // points.element_size(), packed.numel())
    length = max(1, size * points.shape[0] // (points.numel() * count))
    constant = split_weight(weight, count, True)[:, 0].sum(1, keepdim=True) if folds else None
    return _Prepared(points, length, packed, constant)


def _contract_maps(
    branch: Branch, prepared: _Prepared, inputs: Sequence[Tensor], shift: Tensor | None
) -> Tensor:
    """Return the result of a branch without its constant function, block by block."""
    definition, contraction, weight = branch.definition, branch.contraction, prepared.weight
    parts = []
    blocks = prepared.split(prepared.points)
    memory = contraction.allocate(blocks[0], branch.num_functions)
    for block in blocks:
        order, maps = contraction.arrange(block, branch.num_functions), memory[: len(block)]
        compute_values(definition, block, inputs, order, maps)
        parts.append(contraction.apply(_cast(maps, weight.dtype), weight, shift))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


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
        found: list[Tensor | None] = [None]
        with without_autocast(grad.device.type):
            for branch, given in _walk(ctx.plan, tensors):
                wanted = needs[len(found) :]
                found += _differentiate(branch, given, grad, wanted, ctx.dtype)
            if needs[0]:
                points = ctx.plan[0].contraction.flatten(grad)
                found[0] = points.sum([axis for axis in range(points.ndim) if axis != 1]).to(bias.dtype)
        return (None, *found)


def _differentiate(
    branch: Branch, given: _Tensors, grad: Tensor, wanted: Sequence[bool], dtype: torch.dtype | None
) -> list[Tensor | None]:
    """Return the gradients of all tensors of a branch, None where not wanted."""
    contraction, definition = branch.contraction, branch.definition
    x, weights, scale, inputs = given
    start = 2 + len(weights)
    prepared = _prepare(branch, given, dtype)
    grad = _cast(contraction.flatten(grad), prepared.weight.dtype)
    needs = (wanted[0], any(wanted[1:start]), *wanted[start : start + len(inputs)])
    if fused_conv.is_usable(contraction, definition, prepared.points):
        to_points, to_packed, *to_inputs = fused_conv.differentiate(
            definition, contraction, prepared.points, prepared.weight, inputs, grad, needs
        )
    else:
        to_points, to_packed, *to_inputs = _differentiate_maps(branch, prepared, inputs, grad, needs)
    to_x = None if to_points is None else _cast(contraction.restore(to_points, x), x.dtype)
    joined, to_scale = _join_weight(branch, prepared, weights[0], grad, to_packed), None
    if scale is not None and joined is not None:
        by_edge = torch.unflatten(weights[0], 1, (-1, branch.num_weights))
        to_scale = (by_edge * torch.unflatten(joined, 1, (-1, branch.num_weights))).sum(2)
        joined = _scale(branch, joined, scale)
    to_weight, *others = split_gradient(branch, joined)
    return [to_x, to_weight, to_scale, *others, *to_inputs]


def _differentiate_maps(
    branch: Branch, prepared: _Prepared, inputs: Sequence[Tensor], grad: Tensor, wanted: tuple[bool, ...]
) -> list[Tensor | None]:
    """Return the gradients of the points, the packed weights and the inputs, block by block."""
    contraction, definition = branch.contraction, branch.definition
    of_inputs = (wanted[0], *wanted[2:])
    needs_maps = any(of_inputs)
    points = prepared.points
    to_points = torch.empty_like(points) if wanted[0] else None
    to_packed: Tensor | None = None
    to_inputs: list[Tensor | None] = [None] * len(inputs)
    blocks = prepared.split(points)
    memory = contraction.allocate(blocks[0], branch.num_functions)
    for block, part, out in zip(blocks, *map(prepared.split, (grad, to_points)), strict=True):
        order, maps = contraction.arrange(block, branch.num_functions), memory[: len(block)]
        if wanted[1]:
            compute_values(definition, block, inputs, order, maps)
        to_maps, more = contraction.differentiate(
            part, _cast(maps, grad.dtype), prepared.weight, (needs_maps, wanted[1])
        )
        to_packed = more if to_packed is None or more is None else to_packed.add_(more)
        if to_maps is not None:
            found = compute_gradients(
                definition, block, inputs, order, _cast(to_maps, points.dtype), of_inputs, out
            )
            to_inputs = [
                b if a is None or b is None else a + b for a, b in zip(to_inputs, found, strict=True)
            ]
    return [to_points, to_packed, *to_inputs]


def _join_weight(
    branch: Branch, prepared: _Prepared, weight: Tensor, grad: Tensor, to_packed: Tensor | None
) -> Tensor | None:
    """Return the gradient of the weights from that of the packed ones and that of the result."""
    if to_packed is None:
        return None
    contraction, count = branch.contraction, branch.num_functions
    if branch.level is None or prepared.constant is None:
        if not contraction.keeps_order:
            to_packed = contraction.unpack(to_packed, count).transpose(1, 2).flatten(1, 2)
        return _cast(to_packed, weight.dtype)
    found = torch.empty_like(weight, memory_format=torch.contiguous_format)
    by_function = split_weight(found, count, True)
    by_function[:, 1:] = contraction.unpack(to_packed, count)
    by_function[:, 0] = contraction.differentiate_level(
        branch.level, grad, prepared.constant, prepared.points
    )
    return found


def _differentiate_plainly(
    plan: tuple[Branch, ...], grad: Tensor, bias: Tensor | None, tensors: list[Tensor], needs: Sequence[bool]
) -> list[Tensor | None]:
    """Return the gradients in ordinary operations, which can be differentiated again."""
    return plain_gradients(lambda b, *given: _contract_plainly(plan, b, given), [bias, *tensors], needs, grad)
