"""Keys of `model` for the vision transformers that kanvision registers."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from .base import Count, ModelConfig

__all__ = ["KATConfig", "KArAtConfig", "TransformerConfig", "ViTConfig"]


class TransformerConfig(ModelConfig):
    """Keys of the vision transformers that kanvision registers."""

    size: Literal["micro", "tiny", "small", "base", "large"] = "tiny"
    """micro is ours (96 wide, 6 deep), for CPUs; tiny, small and base as published, large as ViT-L."""
    img_size: Count
    """Side of the input in pixels; comes from the data."""
    patch_size: Count | None = None
    """Side of a patch; null picks one by the image size (224: 16, 64: 8, 32: 4)."""
    embed_dim: Count | None = None
    """Width; null keeps the size's own."""
    depth: Count | None = None
    """Number of blocks; null keeps the size's own."""
    num_heads: Count | None = None
    """Attention heads; null keeps the size's own."""


class KATConfig(TransformerConfig):
    """Kolmogorov-Arnold Transformer (Yang and Wang 2024, arXiv 2409.10594)."""

    after_building: ClassVar[frozenset[str]] = frozenset({"init_from", "init_from_mode"})

    family: Literal["kat"]
    """Marks these keys as those of a KAT."""
    act_init: str = "swish"
    """Preset of the second rational of each block."""
    act1_init: str = "identity"
    """Preset of the first rational of each block."""
    num_groups: Count = 8
    """Channel groups that share one denominator."""
    checkpoint: bool = False
    """Evaluate the rationals again in the backward pass: half the memory of a feed-forward block."""
    plain: bool = False
    """true: the plain twin, feed-forward blocks with GELU instead of rationals."""
    init: Literal["released", "variance_preserving"] = "released"
    """released: normal(0, .02) as the published code does; variance_preserving: the paper's rule."""
    attn_init: Literal["mimetic", "default"] = "mimetic"
    """mimetic: attention weights start near +-identity, as released."""
    init_from: str | None = None
    """Plain ViT to start from: a name in timm that has weights, or a file (.npz, .safetensors, .pth)."""
    init_from_mode: Literal["function", "paper"] = "function"
    """function: the second rational is fitted to the ViT's activation; paper: it starts as act_init."""


class ViTConfig(TransformerConfig):
    """The plain vision transformer of the same sizes: the baseline of KAT, and what is taught attention."""

    after_building: ClassVar[frozenset[str]] = frozenset({"teacher", "teacher_config"})

    family: Literal["vit"]
    """Marks these keys as those of a plain vision transformer."""
    teacher: str | None = None
    """Run, checkpoint or latest of a transformer by whose frozen attention it sees; null: by its own."""
    teacher_config: dict[str, Any] | None = None
    """The teacher's `model` and `basis`, written by the run itself, so that its checkpoints can be read."""


class KArAtConfig(TransformerConfig):
    """Vision transformer with Kolmogorov-Arnold attention (Maity et al. 2025, arXiv 2503.10632)."""

    takes_basis: ClassVar[bool] = True
    in_name: ClassVar[frozenset[str]] = frozenset({"size", "num_frequencies", "published_frequencies"})

    family: Literal["karat"]
    """Marks these keys as those of a transformer with KArAt."""
    size: Literal["micro", "tiny", "small", "base"] = "tiny"
    """micro is ours (96 wide, 6 deep), for CPUs; the others are as published."""
    published_frequencies: dict[str, Count] = Field(default_factory=dict)
    """G by size, as the paper settles on; micro is ours."""
    plain: bool = False
    """true: the plain twin, with softmax attention."""
    num_frequencies: Count = 3
    """G of basis=fourier; sets basis.num_frequencies."""
    share: Literal["blockwise", "universal"] = "blockwise"
    """An operator for each block (B of the paper), or one for all (U)."""
    rank: Count | Literal["full"] = 12
    """Hidden units of each head; full: a function for each pair of keys, without W."""
    order: Literal["w_phi", "phi_w", "phi_phi"] = "w_phi"
    """Functions then the matrix W as published, W then functions, or functions twice."""
    base_act: Literal["zero", "identity", "silu", "gelu"] = "zero"
    """What each function gets added."""
    include_dc: bool = False
    """Add the constant to the functions."""
    unit_scales: bool = False
    """Two more factors for each function, which the published parameter counts include."""
    init: Literal["scaled", "paper"] = "scaled"
    """paper: coefficients from N(0, 1); scaled: so that hidden units start at size 1."""
    w_bias: Literal["none", "layer", "head"] = "none"
    """Bias on the entries of the attention: one for all heads of a block, or for each."""
    project: Literal["none", "output", "hidden"] = "none"
    """Rows onto the simplex: of the attention, or of the hidden units."""
    num_softmax_heads: Annotated[int, Field(ge=0)] = 0
    """Heads of each block that keep the softmax."""
    karat_layers: tuple[int, ...] | None = None
    """Blocks that have it, from the end if negative; null: all."""
    mask_mode: Literal["zero", "additive_paper"] = "zero"
    """zero: what a window must not see does not count; additive_paper: its logit gets -100, and counts."""
    implementation: Literal["auto", "naive", "gemm", "recompute", "triton"] = "auto"
    """How it is computed, equal to rounding: docs/karat.md."""
