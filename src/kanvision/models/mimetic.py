"""Initialization of attention that imitates trained transformers.

Trockman and Kolter 2023, "Mimetic Initialization of Self-Attention Layers" (arXiv 2305.09828), as in KAT.
Legend: D width, r rank.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["init_mimetic_attention"]

QUERY_KEY = (0.7, 0.7)  # noise, diagonal
VALUE_PROJECTION = (0.4, -0.4)


@torch.no_grad()
def init_mimetic_attention(attn: nn.Module) -> None:
    """Initialize a timm attention so that products of its weights are near multiples of the identity.

    Per head Wq^T Wk is the best rank-head_dim approximation of 0.7 Z + 0.7 I. The values and the projection
    are the factors U sqrt(S) and sqrt(S) V^T of 0.4 Z - 0.4 I, in that order, so W_proj W_v has its trace.
    Z has independent uniform entries of variance 1 / D. Only torch's generator is used; biases are unchanged.

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
    left, right = _balanced_factors(_target(*QUERY_KEY, num_heads, qkv.weight), width // num_heads)
    query, key, value = qkv.weight.split(width)  # type: ignore[no-untyped-call]
    query.copy_(left.mT.reshape(width, width))  # (heads, head_dim, D) -> (D, D)
    key.copy_(right.reshape(width, width))
    left, right = _balanced_factors(_target(*VALUE_PROJECTION, 1, qkv.weight), width)
    value.copy_(left[0])
    proj.weight.copy_(right[0])


def _target(noise: float, diagonal: float, num: int, like: Tensor) -> Tensor:
    """Return (num, D, D) matrices noise * Z + diagonal * I in at least float32 on the device of `like`."""
    width = like.shape[1]
    dtype = torch.promote_types(like.dtype, torch.float32)
    bound = (3 / width) ** 0.5
    z = torch.empty(num, width, width, device=like.device, dtype=dtype).uniform_(-bound, bound)
    return z.mul_(noise) + diagonal * torch.eye(width, device=like.device, dtype=dtype)


def _balanced_factors(target: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return the factors (..., D, r) and (..., r, D) of the best approximation of rank r.

    The eigenvectors V of A^T A take less than half the time of a singular value decomposition. With S = |A V|
    and U sqrt(S) = A V / sqrt(S), the product is A V V^T regardless of the rounding of small S.
    """
    vectors = torch.linalg.eigh(target.mT @ target).eigenvectors[..., -rank:].flip(-1)
    image = target @ vectors
    root = image.norm(dim=-2, keepdim=True).clamp_(min=torch.finfo(image.dtype).tiny).sqrt_()
    return image / root, (vectors * root).mT
