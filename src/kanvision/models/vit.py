"""Plain vision transformers of a size that timm does not have, as twins of kanvision's transformers."""

from __future__ import annotations

from functools import partial

from timm.models import VisionTransformer

from kanvision.spec.models import VIT_SIZES

from .register_sizes import register_sizes
from .transformer import build_transformer, transformer_cfg

register_sizes(
    __name__,
    "vit_{size}_patch16_224",
    {"micro": {**VIT_SIZES["micro"], "img_size": 224}},
    partial(build_transformer, VisionTransformer),
    transformer_cfg(224),
)
