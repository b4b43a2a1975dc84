"""Sizes and options of networks."""

from __future__ import annotations

from typing import Any, Final, Literal, get_args

# Published KAN layers.
Preset = Literal[
    "kan", "efficient_kan", "fastkan", "kaln", "kacn", "kagn", "kajn", "kabn", "wavkan", "relukan"
]
TokenPreset = Literal[Preset, "group_rational"]
"""Layer of the token mixers of U-KAN; group_rational has no basis."""

# Networks of KAN convolutions.
Form = Literal["plain", "bottleneck", "moe", "moe_bottleneck"]
"""Form of a convolution: itself, a bottleneck, a mixture of experts, or a mixture inside a bottleneck."""
FORMS: Final[tuple[Form, ...]] = get_args(Form)
Norm = Literal["batch", "instance", "group", "layer"]
NORMS: Final[tuple[Norm, ...]] = get_args(Norm)
DropKind = Literal["channel", "element", "noise"]
"""Target of the dropout inside a layer: whole maps, single values, or noise on single values."""
DROP_KINDS: Final[tuple[DropKind, ...]] = get_args(DropKind)
DropPosition = Literal["input", "branch", "squashed", "basis", "output"]
"""Position of the dropout inside a layer."""
DROP_POSITIONS: Final[tuple[DropPosition, ...]] = get_args(DropPosition)
INNER_DROP_POSITIONS: Final[tuple[DropPosition, ...]] = ("branch", "squashed", "basis")
"""Positions inside the branch of the basis."""
Head = Literal["linear", "mlp", "vgg", "kan", "hidden_kan", "matryoshka", "kantryoshka"]
"""Kind of classifier."""
HEADS: Final[tuple[Head, ...]] = get_args(Head)
ConvKANSize = Literal[4, 8, 12, 16, "8_tuned", "12_tuned", "16_tuned"]
VGGKANSize = Literal[11, 13, 16, 19]
VGGKANVersion = Literal["v1", "v2", "v3", "v4"]
ResKANSize = Literal[18, 34, 50, 101, 152]
ResKANStem = Literal["plain", "64p", "32p"]
DenseKANSize = Literal["tiny", 121, 161, 169, 201]
RDKANSize = Literal["tiny", "small", "base", "large"]
KANUNetSize = Literal[3, 4, 5]
KANUNetMixer = Literal["conv", "attention", "focal"]
KANUNET_MIXERS: Final[tuple[KANUNetMixer, ...]] = get_args(KANUNetMixer)
ResKANUNetSize = Literal[18, 34]
U2KANSize = Literal["small", "full"]

# Convolutional KANs and U-KAN.
KKANSize = Literal["small", "medium", "big", "wide"]
KKANVariant = Literal["kkan", "kanc_mlp", "conv_kan", "conv_mlp"]
KKAN_VARIANTS: Final[tuple[KKANVariant, ...]] = get_args(KKANVariant)
UKANSize = Literal["tiny", "small", "medium", "large", "crop"]

# Segmentation networks without KAN layers.
UNetSize = Literal["tiny", "small", "base", "large", "xlarge"]
AttentionUNetSize = Literal["tiny", "base"]
NestedUNetSize = Literal["tiny", "small", "base"]
UNeXtSize = Literal["small", "base"]
RollingUNetSize = Literal["small", "medium", "large"]
UMambaSize = Literal["tiny", "small", "base"]
UMambaVariant = Literal["bottleneck", "encoder"]
"""Position of the state spaces: behind the deepest stage, or behind each stage of the encoder."""
UMAMBA_VARIANTS: Final[tuple[UMambaVariant, ...]] = get_args(UMambaVariant)

# Vision transformers.
ViTSize = Literal["micro", "tiny", "small", "base", "large"]
VIT_SIZES: Final[dict[ViTSize, dict[str, int]]] = {
    "micro": {"embed_dim": 96, "depth": 6, "num_heads": 3},
    "tiny": {"embed_dim": 192, "depth": 12, "num_heads": 3},
    "small": {"embed_dim": 384, "depth": 12, "num_heads": 6},
    "base": {"embed_dim": 768, "depth": 12, "num_heads": 12},
    "large": {"embed_dim": 1024, "depth": 24, "num_heads": 16},
}
"""micro is ours, for two CPU cores; the others are the published ViT-Ti, S, B and L."""
KATInit = Literal["released", "variance_preserving"]
"""Start values of the feed-forward blocks: those of the published code, or those of the paper's rule."""
KAT_INITS: Final[tuple[KATInit, ...]] = get_args(KATInit)
KATAttentionInit = Literal["mimetic", "default"]
KAT_ATTENTION_INITS: Final[tuple[KATAttentionInit, ...]] = get_args(KATAttentionInit)
ViTActivationStart = Literal["function", "paper"]
"""Start of the second rational of a block with the weights of a ViT: its activation, or `act_init`."""
VIT_ACTIVATION_STARTS: Final[tuple[ViTActivationStart, ...]] = get_args(ViTActivationStart)

# Kolmogorov-Arnold attention (KArAt).
KArAtSize = Literal["micro", "tiny", "small", "base"]
KARAT_FREQUENCIES: Final[dict[KArAtSize, int]] = {"micro": 3, "tiny": 3, "small": 3, "base": 1}
"""Number of frequencies, G, that the paper settles on for each size; micro is ours."""
KArAtShare = Literal["blockwise", "universal"]
KARAT_SHARES: Final[tuple[KArAtShare, ...]] = get_args(KArAtShare)
KArAtOrder = Literal["w_phi", "phi_w", "phi_phi"]
KArAtBaseAct = Literal["zero", "identity", "silu", "gelu"]
KArAtInit = Literal["scaled", "paper"]
KArAtBias = Literal["none", "layer", "head"]
KArAtProjection = Literal["none", "output", "hidden"]
KArAtMask = Literal["zero", "additive_paper"]
KARAT_MASKS: Final[tuple[KArAtMask, ...]] = get_args(KArAtMask)
KArAtImplementation = Literal["auto", "naive", "gemm", "recompute", "triton"]
KARAT_OPTIONS: Final[dict[str, tuple[str, ...]]] = {
    "order": get_args(KArAtOrder),
    "init": get_args(KArAtInit),
    "w_bias": get_args(KArAtBias),
    "project": get_args(KArAtProjection),
    "implementation": get_args(KArAtImplementation),
}
"""Legal values of the options of an operator."""

LocationName = Literal["encoder_last", "bottleneck", "decoder_last"]
"""Feature map that networks have under a common name."""
LOCATIONS: Final[dict[LocationName, str]] = {
    "encoder_last": "last map of the encoder",
    "bottleneck": "deepest map of a segmenter, with which its decoder begins",
    "decoder_last": "last map of a segmenter's decoder, the input of its head",
}
"""Each feature map in words, in the order in which an image passes them."""

SOURCES: Final = frozenset(
    {
        *("pretrained", "checkpoint_path", "cache_dir", "encoder_weights", "pretrained_model_args"),
        *("url", "file", "hf_hub_id", "hf_hub_filename", "source", "state_dict", "custom_load"),
    }
)
"""Arguments, at any depth, by which timm and segmentation-models-pytorch download weights or read files."""


def without_sources(values: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a model without the sources of weights, at any depth."""

    def inner(value: Any) -> Any:
        if isinstance(value, dict):
            return without_sources(value)
        return [inner(item) for item in value] if isinstance(value, list | tuple) else value

    return {name: inner(value) for name, value in values.items() if name not in SOURCES}
