"""Initialization of attention that imitates trained transformers.

Trockman and Kolter 2023, "Mimetic Initialization of Self-Attention Layers" (arXiv 2305.09828), as in KAT.
Legend: D width, r width of a head, Z random matrix with entries of mean 0 and variance 1 / D.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["init_mimetic_attention"]

QUERY_KEY = 0.7
VALUE_PROJECTION = -0.4


@torch.no_grad()
def init_mimetic_attention(attn: nn.Module) -> None:
    """Initialize a timm attention so that products of its weights are near multiples of the identity.

    Per head Wq^T Wk is the best rank-r approximation of 0.7 (Z + I). The values and the projection are the
    factors U sqrt(S) and sqrt(S) V^T of -0.4 (Z + I), in that order, so W_proj W_v has its trace. Biases are
    unchanged. Only torch's generator is used.

    Args:
        attn: Attention with `num_heads`, a fused `qkv` and a `proj`, both linear maps of width D.

    Raises:
        ValueError: The layer has no such maps.
    """
    qkv, proj = getattr(attn, "qkv", None), getattr(attn, "proj", None)
    if not isinstance(qkv, nn.Linear) or not isinstance(proj, nn.Linear):
        raise ValueError(
            f"mimetic initialization needs linear maps qkv and proj, {type(attn).__name__} has none."
        )
    width = qkv.in_features
    if qkv.out_features != 3 * width or proj.weight.shape != (width, width):
        raise ValueError(
            f"mimetic initialization needs queries, keys and values of the model's width {width}, "
            f"got qkv of {qkv.out_features} and proj of shape {tuple(proj.weight.shape)}."
        )
    num_heads = int(attn.num_heads)  # type: ignore[arg-type]
    query, key, value = qkv.weight.split(width)  # type: ignore[no-untyped-call]
    for head_query, head_key in zip(query.chunk(num_heads), key.chunk(num_heads), strict=True):
        left, right = _draw_low_rank_factors(width, width // num_heads, like=qkv.weight)
        head_query.copy_(QUERY_KEY**0.5 * left.mT)
        head_key.copy_(QUERY_KEY**0.5 * right)
    left, right = _draw_factors(width, like=qkv.weight)
    value.copy_(abs(VALUE_PROJECTION) ** 0.5 * left)
    proj.weight.copy_(VALUE_PROJECTION / abs(VALUE_PROJECTION) ** 0.5 * right)


def _draw_factors(width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the factors U sqrt(S) and sqrt(S) V^T, both (D, D), of a random matrix Z + I.

    The eigenvectors V of A^T A take less than half the time of a singular value decomposition. With S = |A V|
    and U sqrt(S) = A V / sqrt(S), the product is A V V^T regardless of the rounding of small S.
    """
    target = _new(like, width, width).uniform_(-_bound(width), _bound(width))
    target.diagonal().add_(1)
    vectors = torch.linalg.eigh(target.mT @ target).eigenvectors.flip(-1)
    image = target @ vectors
    root = image.norm(dim=0).clamp_(min=torch.finfo(image.dtype).tiny).sqrt_()
    return image / root, (vectors * root).mT


def _draw_low_rank_factors(width: int, rank: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the factors (D, r) and (r, D) of the best approximation of rank r of a random matrix Z + I.

    Z + I in another orthonormal basis is distributed as Z + I. The factors of one such matrix are therefore
    computed once for each size, and each draw moves them into a random frame. A decomposition a head would
    take nine tenths of the time in which KAT-B is built.
    """
    coordinates = torch.from_numpy(_factor_coordinates(width, rank)).to(like.device)
    frame = nn.init.orthogonal_(_new(like, width, len(coordinates)))
    left, right = (frame @ coordinates.to(frame.dtype)).chunk(2, dim=1)
    return left, right.mT


@lru_cache(maxsize=8)
def _factor_coordinates(width: int, rank: int) -> NDArray[Any]:
    """Return U sqrt(S) and V sqrt(S) of a fixed Z + I, side by side, in a basis of the space they span.

    Returns:
        Matrix of min(D, 2 r) rows and 2 r columns, computed by NumPy, which ignores device contexts of torch.
    """
    z = np.random.default_rng(0).uniform(-_bound(width), _bound(width), (width, width))
    left, singular, right = np.linalg.svd(z + np.eye(width))
    both = np.concatenate([left[:, :rank], right[:rank].T], axis=1)
    factors: NDArray[Any] = np.linalg.qr(both)[1] * np.tile(np.sqrt(singular[:rank]), 2)
    return factors


def _bound(width: int) -> float:
    """Return the half-width of the uniform distribution of variance 1 / D."""
    return float((3 / width) ** 0.5)


def _new(like: Tensor, *shape: int) -> Tensor:
    """Return an uninitialized tensor in at least float32 on the device of `like`."""
    return like.new_empty(shape, dtype=torch.promote_types(like.dtype, torch.float32))
