"""Plain vision transformers of a size that timm does not have, as twins of kanvision's transformers."""

from __future__ import annotations

from functools import partial

from timm.models import VisionTransformer

from .register_sizes import register_sizes
from .transformer import build_transformer, transformer_cfg

__all__ = ["MICRO"]

MICRO: dict[str, int] = {"embed_dim": 96, "depth": 6, "num_heads": 3}
"""Shape of a size for training on CPUs; not published."""


register_sizes(
    __name__,
    "vit_{size}_patch16_224",
    {"micro": {**MICRO, "img_size": 224}},
    partial(build_transformer, VisionTransformer),
    transformer_cfg(224),
)
