"""Self-attention between positions of a map. Shapes: B batch, C channels, D inner channels, N positions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from kanvision.ops.attention import softmax_attention

from .composite import KAN_CONVS, PLAIN_CONVS, CompositeLayer
from .norm import create_norm
from .rope import RotaryPositions

__all__ = ["KANSelfAttention1d", "KANSelfAttention2d", "KANSelfAttention3d", "KANSelfAttentionNd"]

# Norms of single channels apply to queries, keys and values at once.
_PER_CHANNEL = (None, "batch", "instance")


class KANSelfAttentionNd(CompositeLayer):
    """Self-attention whose queries, keys and values are KAN convolutions of the map.

    q, k, v = KAN convolutions D -> D of u,  A = softmax(scale q^T k) over all positions for each head,
    y = post_norm(x + gamma outer(A v)),  u = inner(x)

    `inner` and `outer` are 1x1 convolutions C -> D and D -> C with biases; without `inner_projection` D = C
    and they are omitted. gamma is one learnable number, 0 at the start, so the layer starts as its norm. If
    norm and class of convolution allow it, q, k and v are one convolution D -> 3 D, so that the basis is
    computed once. Time grows with N^2, memory with N.

    Drokin 2024 (arXiv 2407.01092), in the manner of SAGAN (arXiv 1805.08318).

    Args:
        channels: Number of channels, C.
        inner_projection: Number of inner channels, D; None is C without projections.
        kernel_size: Kernel size of the KAN convolutions, an int or one per space axis.
        conv: Class of the convolutions, such as `BottleneckKANConv2d` (or a partial); None is
            `KANConv{1,2,3}d`. A given class is used for three separate layers.
        num_heads: Number of heads, of D / num_heads channels each.
        scale: Factor of q^T k; None is 1 / sqrt(D / num_heads).
        parity: Build the published layer: three convolutions, scale 1, and y = post_norm(gamma x + outer(A
            v)), without a shortcut around the attention at the start.
        post_norm: Norm of the output: None, "batch", "instance", "group", "layer".
        rope: Rotary positions of queries and keys: None, "axial" or "mixed", see `RotaryPositions`.
        **options: Further arguments of the convolutions (`groups`, `basis`, `norm`, ...); `norm_affine`
            applies to `post_norm` too.

    Raises:
        ValueError: A size, a name or a combination of them is not legal.
    """

    def __init__(
        self,
        channels: int,
        inner_projection: int | None = None,
        kernel_size: int | tuple[int, ...] = 3,
        *,
        conv: Callable[..., nn.Module] | None = None,
        num_heads: int = 1,
        scale: float | None = None,
        parity: bool = False,
        post_norm: str | None = "batch",
        rope: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        width = channels if inner_projection is None else inner_projection
        for key, value in (("channels", channels), ("inner_projection", width), ("num_heads", num_heads)):
            if value < 1:
                raise ValueError(f"{key}={value} must be at least 1")
        if width % num_heads:
            raise ValueError(f"num_heads={num_heads} does not divide the {width} channels of the attention")
        where: dict[str, Any] = {key: options.get(key) for key in ("device", "dtype")}
        self.channels = channels
        self.width = width
        self.num_heads = num_heads
        self.parity = parity
        self.groups: int = options.get("groups", 1)
        self.scale = scale if scale is not None else 1.0 if parity else (width // num_heads) ** -0.5
        self.inner: nn.Module = nn.Identity()
        self.outer: nn.Module = nn.Identity()
        if inner_projection is not None:
            self.inner = PLAIN_CONVS[self.ndim](channels, width, 1, **where)
            self.outer = PLAIN_CONVS[self.ndim](width, channels, 1, **where)
        make = KAN_CONVS[self.ndim] if conv is None else conv
        self.fused = conv is None and not parity and options.get("norm") in _PER_CHANNEL
        widths = {"qkv": 3 * width} if self.fused else dict.fromkeys("qkv", width)
        self.projections = nn.ModuleDict(
            {name: make(width, out, kernel_size, padding="same", **options) for name, out in widths.items()}
        )
        self.rope: nn.Module | None = None
        if rope is not None:
            self.rope = RotaryPositions(width // num_heads, num_heads, self.ndim, rope).to(**where)
        self.gamma = nn.Parameter(torch.zeros(1, **where))
        self.post_norm = create_norm(
            post_norm, channels, self.ndim, affine=options.get("norm_affine", True), key="post_norm"
        ).to(**where)

    @torch.no_grad()
    def _reset_own(self) -> None:
        self.gamma.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, *S) to (B, C, *S).

        Raises:
            ValueError: if `x` does not have C channels and the right number of space axes.
        """
        self._check_map(x, self.channels)
        q, k, v = self._heads(self.inner(x))
        if self.rope is not None:
            q, k = self.rope(q, x.shape[2:]), self.rope(k, x.shape[2:])
        attended = softmax_attention(q, k, v, self.scale)  # (B, heads, N, D / heads)
        attended = attended.transpose(2, 3).reshape(x.shape[0], self.width, *x.shape[2:])
        attended = self.outer(attended)
        y = self.gamma * x + attended if self.parity else x + self.gamma * attended
        return cast(Tensor, self.post_norm(y))

    def _heads(self, u: Tensor) -> list[Tensor]:
        """Return queries, keys and values, (B, heads, N, D / heads) each."""
        count, positions = u.shape[0], math.prod(u.shape[2:])
        if self.fused:
            y = cast(Tensor, self.projections["qkv"](u))
            # Each group of the convolution gives its share of all three.
            y = y.reshape(count, self.groups, 3, self.width // self.groups, positions)
            parts = list(y.transpose(1, 2).unbind(1))  # (B, groups, D / groups, N)
        else:
            parts = [self.projections[name](u) for name in "qkv"]
        shape = (count, self.num_heads, self.width // self.num_heads, positions)
        # Kernels without the N x N matrix need contiguous channels.
        return [part.reshape(shape).transpose(2, 3).contiguous() for part in parts]

    def extra_repr(self) -> str:
        """Return the widths for `repr`."""
        return (
            f"{self.channels}, width={self.width}, num_heads={self.num_heads}, scale={self.scale:.4g}, "
            f"parity={self.parity}"
        )


class KANSelfAttention1d(KANSelfAttentionNd):
    """Self-attention (B, C, L) -> (B, C, L) with the arguments of `KANSelfAttentionNd`."""

    ndim = 1


class KANSelfAttention2d(KANSelfAttentionNd):
    """Self-attention (B, C, H, W) -> (B, C, H, W) with the arguments of `KANSelfAttentionNd`."""

    ndim = 2


class KANSelfAttention3d(KANSelfAttentionNd):
    """Self-attention (B, C, D, H, W) -> (B, C, D, H, W) with the arguments of `KANSelfAttentionNd`."""

    ndim = 3
