"""Plain vision transformers of sizes that timm has not: twins to compare our own with."""

from __future__ import annotations

from typing import Any

from timm.models import VisionTransformer, generate_default_cfgs, register_model

from .transformer import build_transformer, transformer_cfg

__all__ = ["MICRO"]

MICRO: dict[str, int] = {"embed_dim": 96, "depth": 6, "num_heads": 3}
"""A size that two CPU cores can train; ours, not published."""

default_cfgs = generate_default_cfgs({"vit_micro_patch16_224": transformer_cfg(224)})


@register_model
def vit_micro_patch16_224(pretrained: bool = False, **kwargs: Any) -> Any:
    """Plain ViT with GELU, the twin of kat_micro_patch16_224; 224 pixels unless img_size is given."""
    return build_transformer(
        VisionTransformer, "vit_micro_patch16_224", pretrained, **{**MICRO, "img_size": 224, **kwargs}
    )
