"""Attention transfer: a vision transformer that uses the attention matrices of a trained one.

B batch, h heads, N tokens, d channels of a head.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from timm.layers import Attention
from timm.models import VisionTransformer
from torch import Tensor, nn

from kanvision.layers import KArAttention

__all__ = ["AttentionTransfer", "CopiedAttention"]


class CopiedAttention(nn.Module):
    """Self-attention with new values and projection, whose matrices are set from outside.

    Args:
        attn: Attention of timm with the same sizes and dropout.
    """

    def __init__(self, attn: Attention) -> None:
        super().__init__()
        width, inner = attn.qkv.in_features, attn.qkv.out_features // 3
        self.num_heads = attn.num_heads
        self.value = nn.Linear(width, inner, bias=attn.qkv.bias is not None)
        self.proj = attn.proj
        self.proj_drop = attn.proj_drop
        nn.init.trunc_normal_(self.value.weight, std=0.02)
        if self.value.bias is not None:
            nn.init.zeros_(self.value.bias)
        self.matrix: Tensor | None = None

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """Map (B, N, D) to (B, N, D) by `matrix` (B, h, N, N), each used by the same number of heads.

        Raises:
            ValueError: A mask is given, which copied matrices cannot apply.
        """
        if attn_mask is not None or is_causal:
            raise ValueError("copied attention has no mask: the matrices are given")
        assert self.matrix is not None
        batch, tokens, _ = x.shape
        v = self.value(x).reshape(batch, tokens, self.num_heads, -1).transpose(1, 2)  # (B, h, N, d)
        matrix = self.matrix.repeat_interleave(self.num_heads // self.matrix.shape[1], dim=1)
        out = (matrix.to(v.dtype) @ v).transpose(1, 2).flatten(2)  # (B, N, h d)
        return cast(Tensor, self.proj_drop(self.proj(out)))


class AttentionTransfer(nn.Module):
    """Student that learns everything except its attention matrices, which a frozen teacher computes.

    Each block of the student applies the attention matrix of the corresponding block of the teacher, after
    softmax or learned functions, to its own values. Li et al. 2024, "On the Surprising
    Effectiveness of Attention Transfer for Vision Transformers" (arXiv 2411.09702), "attention copy", as
    Maity et al. 2025 (arXiv 2503.10632) use it with KArAt. If the student has more heads, each matrix
    serves several consecutive heads (the paper does not specify them).

    Args:
        teacher: timm's VisionTransformer or `KArAtViT`, trained; frozen and always in evaluation mode.
        student: Plain VisionTransformer with the same depth and tokens; its queries and keys are removed.

    Raises:
        ValueError: One of them is no VisionTransformer, or depths, numbers of tokens or heads do not fit.
    """

    def __init__(self, teacher: VisionTransformer, student: VisionTransformer) -> None:
        super().__init__()
        for name, model in (("teacher", teacher), ("student", student)):
            if not isinstance(model, VisionTransformer):
                raise ValueError(
                    f"the {name} is a {type(model).__name__}; legal: timm's VisionTransformer, KArAtViT"
                )
        sizes = [(len(m.blocks), m.patch_embed.num_patches + m.num_prefix_tokens) for m in (teacher, student)]
        if sizes[0] != sizes[1]:
            raise ValueError(f"(blocks, tokens): the teacher has {sizes[0]}, the student {sizes[1]}")
        blocks = zip(cast(Any, teacher.blocks), cast(Any, student.blocks), strict=True)
        for index, (ours, theirs) in enumerate(blocks):
            if theirs.attn.num_heads % ours.attn.num_heads:
                raise ValueError(
                    f"block {index}: {theirs.attn.num_heads} heads of the student cannot share the matrices "
                    f"of {ours.attn.num_heads} heads of the teacher evenly"
                )
            theirs.attn = CopiedAttention(theirs.attn)
        self.teacher = teacher.requires_grad_(False).eval()
        self.student = student

    def train(self, mode: bool = True) -> AttentionTransfer:
        """Set the mode of the student; the teacher stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def get_classifier(self) -> nn.Module:
        """Return the classifier of the student."""
        return cast(nn.Module, self.student.get_classifier())

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to the logits (B, classes) of the student."""
        copies = [cast(CopiedAttention, block.attn) for block in cast(Any, self.student.blocks)]
        for copy, matrix in zip(copies, self.matrices(x), strict=True):
            copy.matrix = matrix
        try:
            return cast(Tensor, self.student(x))
        finally:
            for copy in copies:
                copy.matrix = None

    @torch.no_grad()
    def matrices(self, x: Tensor) -> list[Tensor]:
        """Return the attention matrices (B, h, N, N) of each block of the teacher."""
        model: Any = self.teacher
        x = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(x))))
        found = []
        for block in model.blocks:
            found.append(_matrix(block.attn, block.norm1(x)))
            x = block(x)
        return found


def _matrix(attn: Any, x: Tensor) -> Tensor:
    if isinstance(attn, KArAttention):
        return attn.attention(x)[1]
    batch, tokens, _ = x.shape
    q, k, _ = attn.qkv(x).reshape(batch, tokens, 3, attn.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    logits: Tensor = attn.scale * attn.q_norm(q) @ attn.k_norm(k).mT
    return logits.softmax(-1)
