"""Matrices of every self-attention of a network, before and after its activation.

B images, W windows of all images, h heads, N tokens, gh gw grid of patches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from timm.models.swin_transformer import window_reverse
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kanvision.layers import KArAtOperator

__all__ = ["Attention", "attentions", "maps"]

Take = Callable[["Attention"], None]
_SOFTMAX: tuple[Any, ...] = (torch.softmax, F.softmax, Tensor.softmax)


class Attention(NamedTuple):
    """Matrices of one self-attention for a batch."""

    name: str
    """Path of the module."""
    before: Tensor
    """Logits, (B or W, h, N, N), with masks and position biases."""
    after: Tensor
    """Attention weights, of the same shape."""
    rank: int | None
    """Hidden units of learned functions, r, the largest rank of `after` without biases; None for softmax."""
    head_dim: int
    """Channels of a head, d, which limit the rank of `before` without masks and biases."""
    num_softmax_heads: int
    """Number of heads with a softmax, which come first."""


class _Listener(TorchFunctionMode):
    """Records logits and weights of each softmax over tokens, plain or fused.

    It intercepts `scaled_dot_product_attention` of torch, and softmax over the last dimension of a square of
    tokens, for modules of any class.
    """

    def __init__(self, owner: Callable[[], str], take: Take) -> None:
        super().__init__()
        self.owner, self.take = owner, take

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        out = func(*args, **given)
        if func is F.scaled_dot_product_attention:
            self._fused(*args, **given)
        elif func in _SOFTMAX:
            self._plain(out, *args, **given)
        return out

    def _fused(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        **_: Any,
    ) -> None:
        if query.shape != key.shape or query.ndim != 4:
            return
        factor = query.shape[-1] ** -0.5 if scale is None else scale
        logits = factor * (query @ key.mT)
        if is_causal:
            attn_mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=query.device).tril()
        if attn_mask is not None:
            hidden = attn_mask.dtype == torch.bool
            logits = logits.masked_fill(~attn_mask, -math.inf) if hidden else logits + attn_mask
        self._take(logits, logits.softmax(-1), query.shape[-1])

    def _plain(self, out: Tensor, logits: Tensor, dim: int | None = None, *_: Any, **__: Any) -> None:
        is_square = logits.ndim == 4 and logits.shape[-1] == logits.shape[-2] and logits.shape[-1] > 1
        if is_square and dim in (-1, 3):
            self._take(logits, out, logits.shape[-1])

    def _take(self, before: Tensor, after: Tensor, head_dim: int) -> None:
        self.take(Attention(self.owner(), before, after, None, head_dim, before.shape[1]))


def attentions(model: nn.Module, images: Tensor, wanted: Collection[str] | None = None) -> list[Attention]:
    """Run a network and return the matrices of its self-attentions in the order of computation.

    Softmax attention of any class is recorded (see `_Listener`), and `KArAtOperator` in any module. Softmax
    heads beside learned ones come first, as in `KArAttention`. The gated attention of ConViT mixes a
    softmax of the logits with one of positions: `before` are the logits, `after` is the mixture.

    Args:
        model: Network in evaluation mode.
        images: Images, (B, C, H, W).
        wanted: Paths of the attentions to keep, which limits memory; None for all.
    """
    calls: list[Attention] = []
    stack: list[str] = []

    def take(call: Attention) -> None:
        if wanted is None or call.name in wanted:
            calls.append(
                call._replace(before=call.before.detach().float(), after=call.after.detach().float())
            )

    with _following(model, stack, take), _Listener(lambda: stack[-1] if stack else "", take), torch.no_grad():
        model(images)
    found: dict[str, list[Attention]] = {}
    for call in calls:
        found.setdefault(call.name, []).append(call)
    return [_joined(model.get_submodule(name), name, parts) for name, parts in found.items()]


@contextmanager
def _following(model: nn.Module, stack: list[str], take: Take) -> Iterator[None]:
    """Keep the path of the running module on top of a stack; record operators with learned functions."""

    def enter(name: str) -> Callable[..., None]:
        return lambda *_: stack.append(name)

    def leave(*_: Any) -> None:
        stack.pop()

    def learned(operator: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        assert isinstance(operator, KArAtOperator)
        take(_learned_call(operator, stack[-1], *args, **kwargs))

    with ExitStack() as hooks:
        for name, module in model.named_modules():
            if isinstance(module, KArAtOperator):
                hooks.enter_context(module.register_forward_pre_hook(learned, with_kwargs=True))
            elif not isinstance(module, nn.Softmax):  # recorded with the module that contains it
                hooks.enter_context(module.register_forward_pre_hook(enter(name)))
                hooks.enter_context(module.register_forward_hook(leave, always_call=True))
        yield


def _learned_call(
    operator: KArAtOperator,
    owner: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float | None = None,
    logit_bias: Tensor | None = None,
    keep: Tensor | None = None,
    drop_rate: float = 0.0,
) -> Attention:
    before, after = operator.attention(q, k, scale, logit_bias, keep)
    rank = operator.num_tokens if operator.rank is None else operator.rank
    return Attention(owner, before, after, rank + (operator.bias is not None), q.shape[-1], 0)


def _joined(module: nn.Module, name: str, calls: Sequence[Attention]) -> Attention:
    """Return the heads of one attention, softmax heads first."""
    calls = sorted(calls, key=lambda call: call.rank is not None)
    before = torch.cat([call.before for call in calls], 1)
    after = torch.cat([call.after for call in calls], 1)
    if hasattr(module, "gating_param") and len(calls) == 2:  # ConViT: contents, positions
        gate = cast(Tensor, module.gating_param).sigmoid().view(1, -1, 1, 1)
        before, after = calls[0].before, (1 - gate) * calls[0].after + gate * calls[1].after
    soft = sum(call.num_softmax_heads for call in calls)
    head_dim = _head_dim(module, before, calls[0].head_dim)
    return Attention(name, before, after, calls[-1].rank, head_dim, min(soft, before.shape[1]))


def _head_dim(module: nn.Module, before: Tensor, otherwise: int) -> int:
    """Return the channels of a head; for a plain softmax, from the scale of the module if there is one."""
    scale = getattr(module, "scale", None)
    return round(scale**-2) if isinstance(scale, float) else min(otherwise, before.shape[-1])


def maps(model: nn.Module, name: str, matrix: Tensor, num_images: int) -> Tensor:
    """Return the attention of the class token, or the mean over all tokens, on the grid of patches.

    `matrix` has logits or weights of the attention at a path, (B or W, h, N, N); a row is a query. Maps,
    (B, h, gh, gw), are without class and register tokens.

    Raises:
        ValueError: The positions of the tokens in the image are not known.
    """
    if len(matrix) != num_images:
        return _window_maps(model, name, matrix, num_images)
    tokens = matrix.shape[-1]
    grid, prefix = _grid(model, tokens, name)
    rows = matrix[:, :, 0] if prefix and has_class_token(model) else matrix.mean(2)  # (B, h, N)
    return rows[..., prefix:].reshape(*rows.shape[:2], *grid)


def has_class_token(model: nn.Module) -> bool:
    """Return True if a transformer has a class token."""
    return getattr(model, "cls_token", None) is not None


def _grid(model: nn.Module, tokens: int, name: str) -> tuple[tuple[int, int], int]:
    """Return the grid of patches among some tokens, and the number of tokens in front of them."""
    grid = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    most = max(1, getattr(model, "num_prefix_tokens", 1))
    if grid is not None and 0 <= (prefix := tokens - math.prod(grid)) <= most:
        return (int(grid[0]), int(grid[1])), prefix
    for prefix in (0, most):
        side = math.isqrt(tokens - prefix)
        if side**2 == tokens - prefix:
            return (side, side), prefix
    raise ValueError(f"{name} attends to {tokens} tokens, whose positions in the image are not known")


def _window_maps(model: nn.Module, name: str, matrix: Tensor, num_images: int) -> Tensor:
    """Return the maps of Swin: the mean of each window over its queries, at its position in the image."""
    block: Any = model.get_submodule(name.rpartition(".")[0])
    if not all(hasattr(block, key) for key in ("window_size", "shift_size", "input_resolution")):
        raise ValueError(
            f"{name} attends within {len(matrix) // num_images} groups of tokens, whose positions in the "
            "image are not known"
        )
    size, shift, (height, width) = block.window_size, block.shift_size, block.input_resolution
    padded = [math.ceil(side / window) * window for side, window in zip((height, width), size, strict=True)]
    rows = matrix.mean(2).transpose(1, 2).reshape(len(matrix), *size, -1)  # (W, wh, ww, h)
    image = window_reverse(rows, size, *padded)[:, :height, :width]  # (B, H, W, h)
    return torch.roll(image, shifts=tuple(shift), dims=(1, 2)).permute(0, 3, 1, 2)
