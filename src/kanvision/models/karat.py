"""Vision transformers with Kolmogorov-Arnold attention (KArAt): ViT, ConViT and Swin of timm.

Maity et al. 2025 (arXiv 2503.10632). The paper's G3B of ViT-Tiny is `karat_tiny_patch16_224` with
`init="paper", unit_scales=True`; G is `basis_kwargs={"num_frequencies": G}`, B and U are `share`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from timm.models import SwinTransformer, VisionTransformer, build_model_with_cfg
from timm.models.convit import ConVit
from torch import nn

from kanvision.layers import KArAtOperator, KArAttention, KArAtWindowAttention
from kanvision.spec.models import KARAT_FREQUENCIES, KARAT_SHARES, VIT_SIZES, KArAtShare, KArAtSize

from .register_sizes import register_sizes
from .transformer import build_transformer, transformer_cfg

__all__ = ["KArAtConViT", "KArAtSwin", "KArAtViT", "replace_attention"]


def replace_attention(
    model: nn.Module,
    blocks: Sequence[nn.Module],
    num_tokens: int,
    *,
    share: KArAtShare = "blockwise",
    karat_layers: Sequence[int] | None = None,
    num_softmax_heads: int = 0,
    mask_mode: str = "zero",
    **options: Any,
) -> None:
    """Replace the attention of transformer blocks by `KArAttention` with the same linear maps.

    Args:
        model: Model that owns a universal operator, as `karat_operator`, so that it is saved once.
        blocks: The blocks, each with an `attn`.
        num_tokens: Number of tokens, prefix tokens included, N.
        share: "blockwise" for one operator in each block, "universal" for one in all blocks.
        karat_layers: Indices of the blocks to change, from the end if negative; None for all.
        num_softmax_heads: Number of heads of each block that keep the softmax.
        mask_mode: Handling of masks, see `KArAttention`.
        **options: Arguments of `KArAtOperator`.

    Raises:
        ValueError: A value is not legal, or there is no such block.
    """
    if share not in KARAT_SHARES:
        raise ValueError(f"share={share!r} is not known; legal values: {', '.join(KARAT_SHARES)}")
    given = range(len(blocks)) if karat_layers is None else karat_layers
    if outside := [index for index in given if not -len(blocks) <= index < len(blocks)]:
        raise ValueError(f"karat_layers={list(given)}: there are {len(blocks)} blocks, so none is {outside}")
    if not given:
        raise ValueError("karat_layers=[] selects no block; use plain=True for a model without KArAt")
    shared: KArAtOperator | None = None
    for block in (blocks[index] for index in given):
        attn: Any = block.attn
        if share == "universal" and shared is None:
            weight = attn.qkv.weight
            shared = KArAtOperator(
                attn.num_heads - num_softmax_heads,
                num_tokens,
                device=weight.device,
                dtype=weight.dtype,
                **options,
            )
            model.karat_operator = shared
        block.attn = KArAttention.from_attention(
            attn,
            num_tokens,
            num_softmax_heads=num_softmax_heads,
            mask_mode=mask_mode,
            operator=shared,
            options=options,
        )


def _operators(blocks: Sequence[nn.Module]) -> list[KArAtOperator]:
    """Return the distinct operators of some blocks."""
    attentions = [block.attn for block in blocks if isinstance(block.attn, KArAttention)]
    return list({id(attn.operator): attn.operator for attn in attentions}.values())


class KArAtViT(VisionTransformer):
    """Vision transformer of timm in which learned functions replace the softmax of the attention.

    The functions depend on the positions of tokens, so another image size needs `set_input_size`, which
    interpolates them (not part of the paper, which has one size).

    Args:
        *args: Arguments of timm's VisionTransformer.
        plain: Build the plain twin, with softmax attention.
        share: "blockwise" (B of the paper) or "universal" (U).
        karat_layers: Indices of the blocks with KArAt; None for all.
        num_softmax_heads: Number of heads of each block that keep the softmax.
        mask_mode: Handling of masks, see `kanvision.layers.KArAttention`.
        karat: Arguments of `kanvision.layers.KArAtOperator`.
        **kwargs: Arguments of timm's VisionTransformer, except those that vary the number of tokens.

    Raises:
        ValueError: A value is not legal, or the number of tokens would vary.
    """

    def __init__(
        self,
        *args: Any,
        plain: bool = False,
        share: KArAtShare = "blockwise",
        karat_layers: Sequence[int] | None = None,
        num_softmax_heads: int = 0,
        mask_mode: str = "zero",
        karat: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        for key in ("dynamic_img_size", "patch_drop_rate"):
            if kwargs.get(key):
                raise ValueError(f"{key}={kwargs[key]}: the functions of KArAt need a fixed number of tokens")
        super().__init__(*args, **kwargs)
        if plain:
            return
        replace_attention(
            self,
            list(self.blocks),
            self.patch_embed.num_patches + self.num_prefix_tokens,
            share=share,
            karat_layers=karat_layers,
            num_softmax_heads=num_softmax_heads,
            mask_mode=mask_mode,
            **(karat or {}),
        )

    def set_input_size(
        self, img_size: tuple[int, int] | None = None, patch_size: tuple[int, int] | None = None
    ) -> None:
        """Change the image size; position embedding and operators are interpolated."""
        before = self.patch_embed.grid_size
        super().set_input_size(img_size, patch_size)
        for operator in _operators(list(self.blocks)):
            operator.resize(before, self.patch_embed.grid_size, self.num_prefix_tokens)


class KArAtConViT(ConVit):
    """ConViT of timm in which the blocks with plain attention, which come last, use KArAt.

    Args:
        *args: Arguments of timm's ConVit.
        plain: Build the plain twin, without KArAt.
        share: "blockwise" or "universal".
        karat_layers: Indices of these blocks with KArAt; None for all.
        num_softmax_heads: Number of heads of each block that keep the softmax.
        mask_mode: Handling of masks, see `kanvision.layers.KArAttention`.
        karat: Arguments of `kanvision.layers.KArAtOperator`.
        **kwargs: Arguments of timm's ConVit.

    Raises:
        ValueError: A value is not legal.
    """

    def __init__(
        self,
        *args: Any,
        plain: bool = False,
        share: KArAtShare = "blockwise",
        karat_layers: Sequence[int] | None = None,
        num_softmax_heads: int = 0,
        mask_mode: str = "zero",
        karat: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if plain:
            return
        replace_attention(
            self,
            list(self.blocks)[self.local_up_to_layer :],
            self.num_patches + 1,
            share=share,
            karat_layers=karat_layers,
            num_softmax_heads=num_softmax_heads,
            mask_mode=mask_mode,
            **(karat or {}),
        )


class KArAtSwin(SwinTransformer):
    """Swin transformer of timm with KArAt in its windows and one operator for each block.

    Args:
        *args: Arguments of timm's SwinTransformer.
        plain: Build the plain twin, with softmax attention.
        share: Must be "blockwise", because stages differ in windows and heads.
        num_softmax_heads: Must be 0.
        mask_mode: Handling of masks, see `kanvision.layers.KArAtWindowAttention`.
        karat: Arguments of `kanvision.layers.KArAtOperator`.
        **kwargs: Arguments of timm's SwinTransformer.

    Raises:
        ValueError: A value is not legal.
    """

    def __init__(
        self,
        *args: Any,
        plain: bool = False,
        share: str = "blockwise",
        num_softmax_heads: int = 0,
        mask_mode: str = "zero",
        karat: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if share != "blockwise":
            raise ValueError(
                f"share={share!r}: the stages of Swin differ in heads and tokens; use 'blockwise'"
            )
        if num_softmax_heads:
            raise ValueError(
                f"num_softmax_heads={num_softmax_heads}: all heads of a window have KArAt; use 0"
            )
        super().__init__(*args, **kwargs)
        if plain:
            return
        stages: Any = self.layers
        for stage in stages:
            for block in stage.blocks:
                block.attn = KArAtWindowAttention(block.attn, mask_mode, **(karat or {}))


_OPERATOR = (
    "basis",
    "rank",
    "order",
    "base_act",
    "include_dc",
    "unit_scales",
    "init",
    "w_bias",
    "project",
    "implementation",
)


def _with_operator(kwargs: dict[str, Any], num_frequencies: int) -> dict[str, Any]:
    """Return the arguments of a model with those of the operator collected under `karat`."""
    options = {key: kwargs.pop(key) for key in _OPERATOR if key in kwargs}
    if options.get("rank") == "full":  # timm drops arguments that are None
        options["rank"] = None
    own = {"num_frequencies": num_frequencies} if options.get("basis", "fourier") == "fourier" else {}
    options["basis_kwargs"] = {**own, **(kwargs.pop("basis_kwargs", None) or {})}
    return {**kwargs, "karat": {**options, **(kwargs.pop("karat", None) or {})}}


def _vit(name: str, pretrained: bool, *, num_frequencies: int, **kwargs: Any) -> Any:
    """Build a vision transformer with KArAt; `num_frequencies` is the G of a Fourier basis."""
    return build_transformer(KArAtViT, name, pretrained, **_with_operator(kwargs, num_frequencies))


def _convit(
    name: str,
    pretrained: bool,
    *,
    embed_dim: int = 192,
    depth: int = 12,
    num_heads: int = 4,
    **kwargs: Any,
) -> Any:
    """Build a ConViT-Tiny; `embed_dim` is the width of all heads together, as in the other models."""
    given = {"local_up_to_layer": max(1, depth - 2), "patch_size": 16, **_with_operator(kwargs, 3)}
    out_indices = given.pop("out_indices", min(3, depth))
    return build_model_with_cfg(
        KArAtConViT,
        name,
        pretrained,
        feature_cfg={"out_indices": out_indices, "feature_cls": "getter"},
        embed_dim=embed_dim // num_heads,
        depth=depth,
        num_heads=num_heads,
        **given,
    )


def _swin(
    name: str,
    pretrained: bool,
    *,
    depth: int | None = None,
    depths: Sequence[int] = (2, 2, 6, 2),
    num_heads: int | Sequence[int] = 3,
    **kwargs: Any,
) -> Any:
    """Build a Swin-Tiny of `depth` blocks a stage; `num_heads` of the first stage doubles with the width."""
    depths = tuple(depths) if depth is None else (depth,) * 4
    heads = tuple(num_heads * 2**i for i in range(4)) if isinstance(num_heads, int) else tuple(num_heads)
    given = {"embed_dim": 96, "patch_size": 4, "window_size": 7, **_with_operator(kwargs, 3)}
    out_indices = given.pop("out_indices", tuple(range(len(depths))))
    return build_model_with_cfg(
        KArAtSwin,
        name,
        pretrained,
        feature_cfg={"out_indices": out_indices, "feature_cls": "getter"},
        depths=depths,
        num_heads=heads,
        **given,
    )


# Sizes for 32x32 images are not published.
_REGISTERED: tuple[tuple[str, int, tuple[KArAtSize, ...]], ...] = (
    ("karat_{size}_patch16_224", 224, tuple(KARAT_FREQUENCIES)),
    ("karat_{size}_patch4_32", 32, ("micro", "tiny")),
)
for _name, _img_size, _sizes in _REGISTERED:
    register_sizes(
        __name__,
        _name,
        {
            size: {**VIT_SIZES[size], "img_size": _img_size, "num_frequencies": KARAT_FREQUENCIES[size]}
            for size in _sizes
        },
        _vit,
        transformer_cfg(_img_size),
    )
register_sizes(__name__, "karat_convit_{size}_patch16_224", {"tiny": {}}, _convit, transformer_cfg(224))
register_sizes(
    __name__,
    "karat_swin_{size}_patch4_window7_224",
    {"tiny": {}},
    _swin,
    {**transformer_cfg(224), "crop_pct": 0.9, "classifier": "head.fc"},
)
