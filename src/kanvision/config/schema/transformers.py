"""Keys of `model` for the vision transformers that kanvision registers."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from kanvision.spec.models import (
    KARAT_FREQUENCIES,
    KArAtBaseAct,
    KArAtBias,
    KArAtImplementation,
    KArAtInit,
    KArAtMask,
    KArAtOrder,
    KArAtProjection,
    KArAtShare,
    KArAtSize,
    KATAttentionInit,
    KATInit,
    ViTActivationStart,
    ViTSize,
)

from .base import Count, ModelConfig

__all__ = ["KATConfig", "KArAtConfig", "TransformerConfig", "ViTConfig"]


class TransformerConfig(ModelConfig):
    """Keys of the vision transformers that kanvision registers."""

    size: ViTSize = "tiny"
    """micro: 96 wide, 6 deep, not published, for CPUs; tiny, small and base as published; large: as ViT-L."""
    img_size: Count
    """Side of the input in pixels; by default that of the data."""
    patch_size: Count | None = None
    """Side of a patch in pixels; null: by the image size (224: 16, 64: 8, 32: 4)."""
    embed_dim: Count | None = None
    """Width of the tokens; null: that of the size."""
    depth: Count | None = None
    """Number of blocks; null: that of the size."""
    num_heads: Count | None = None
    """Number of attention heads; null: that of the size."""


class KATConfig(TransformerConfig):
    """Kolmogorov-Arnold Transformer (Yang and Wang 2024, arXiv 2409.10594)."""

    after_building: ClassVar[frozenset[str]] = frozenset({"init_from", "init_from_mode"})

    family: Literal["kat"]
    """Name of the family: KAT."""
    act_init: str = "swish"
    """Function that the second rational of each block starts as."""
    act1_init: str = "identity"
    """Function that the first rational of each block starts as."""
    num_groups: Count = 8
    """Channel groups that share one denominator."""
    plain: bool = False
    """true: the plain twin, feed-forward blocks with GELU instead of rationals."""
    init: KATInit = "released"
    """released: N(0, 0.02^2), as in the published code; variance_preserving: the rule of the paper."""
    attn_init: KATAttentionInit = "mimetic"
    """mimetic: products of attention weights start near plus or minus identity, as in the published code;
    default: uniform."""
    init_from: str | None = None
    """Plain ViT whose weights the network starts from: a name of timm, or a .npz, .safetensors or .pth
    file."""
    init_from_mode: ViTActivationStart = "function"
    """Start of the second rational with init_from: function: fitted to the ViT's activation; paper:
    act_init."""


class ViTConfig(TransformerConfig):
    """Plain vision transformer of the same sizes: baseline of KAT, and student of attention transfer."""

    after_building: ClassVar[frozenset[str]] = frozenset({"attn_init", "teacher", "teacher_config"})
    has_kan_layers: ClassVar[bool] = False
    registered_prefixes: ClassVar[tuple[str, ...]] = ("vit_micro",)

    family: Literal["vit"]
    """Name of the family: plain vision transformer."""
    attn_init: KATAttentionInit = "default"
    """default: that of timm; mimetic: products of attention weights start near plus or minus identity, as in
    KAT."""
    teacher: str | None = None
    """Run, checkpoint or latest of a trained transformer whose frozen attention replaces the model's own;
    null: none."""
    teacher_config: dict[str, Any] | None = None
    """Sections `model` and `basis` of the teacher; the run fills them in, so that its checkpoints load."""


class KArAtConfig(TransformerConfig):
    """Vision transformer with Kolmogorov-Arnold attention (Maity et al. 2025, arXiv 2503.10632)."""

    takes_basis: ClassVar[bool] = True
    in_name: ClassVar[frozenset[str]] = frozenset({"size", "num_frequencies", "published_frequencies"})

    family: Literal["karat"]
    """Name of the family: transformer with KArAt."""
    size: KArAtSize = "tiny"
    """micro: 96 wide, 6 deep, not published, for CPUs; the others as published."""
    published_frequencies: dict[KArAtSize, Count] = Field(default_factory=KARAT_FREQUENCIES.copy)
    """Number of frequencies, G, by size, as the paper recommends; micro: not published."""
    plain: bool = False
    """true: the plain twin, with softmax attention."""
    num_frequencies: Count
    """Number of frequencies, G, of basis=fourier; sets basis.num_frequencies."""
    share: KArAtShare = "blockwise"
    """blockwise: an operator for each block (B in the paper); universal: one for all blocks (U)."""
    rank: Count | Literal["full"] = 12
    """Hidden units of each head; full: a function for each pair of keys, without the matrix W."""
    order: KArAtOrder = "w_phi"
    """w_phi: functions, then the matrix W, as published; phi_w: W, then functions; phi_phi: functions
    twice."""
    base_act: KArAtBaseAct = "zero"
    """Activation that is added to each function."""
    include_dc: bool = False
    """Include the constant function in the basis."""
    unit_scales: bool = False
    """Two trainable factors for each function, which the published parameter counts include."""
    init: KArAtInit = "scaled"
    """paper: coefficients from N(0, 1); scaled: coefficients with which hidden units start at size 1."""
    w_bias: KArAtBias = "none"
    """Bias of the attention matrix: none, one for all heads of a block (layer), or one for each head."""
    project: KArAtProjection = "none"
    """Projection of rows onto the simplex: of the attention matrix (output), or of the hidden units."""
    num_softmax_heads: Annotated[int, Field(ge=0)] = 0
    """Number of heads of each block that keep the softmax."""
    karat_layers: tuple[int, ...] | None = None
    """Indices of the blocks with KArAt, negative ones from the end; null: all."""
    mask_mode: KArAtMask = "zero"
    """Masked keys of a window: zero: without effect; additive_paper: their logits get -100, as published."""
    implementation: KArAtImplementation = "auto"
    """Implementation; results differ by rounding only: docs/karat.md."""
