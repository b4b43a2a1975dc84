"""Keys of `model` and `basis`: the network."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from kanvision.spec.models import (
    KKAN_VARIANTS,
    ConvKANSize,
    DenseKANSize,
    DropKind,
    DropPosition,
    Form,
    Head,
    KANUNetMixer,
    KANUNetSize,
    KKANSize,
    KKANVariant,
    Norm,
    Preset,
    RDKANSize,
    ResKANSize,
    ResKANStem,
    ResKANUNetSize,
    TokenPreset,
    U2KANSize,
    UKANSize,
    VGGKANSize,
    VGGKANVersion,
)

from .base import Count, ModelConfig, Positive, Rate, Section
from .transformers import KArAtConfig, KATConfig, ViTConfig
from .unets import PlainSegmenterConfig


class KANConvConfig(ModelConfig):
    """Networks of KAN convolutions (Drokin 2024, arXiv 2407.01092)."""

    takes_basis: ClassVar[bool] = True
    null_is_a_value: ClassVar[frozenset[str]] = frozenset({"norm"})

    width_scale: Positive = 1.0
    """Factor on the width of every layer."""
    preset: Preset | None = None
    """Published layer; null: the one of the basis. wavkan has one wavelet for each edge."""
    plain: bool | Literal["pointwise"] = False
    """true: the plain twin, ReLU(norm(convolution)); pointwise: only the 1x1 convolutions are plain."""
    pointwise_preset: Preset | None = None
    """Published layer for 1x1 convolutions; null: the same as for the others."""
    form: Form = "plain"
    """Form of a convolution: plain, bottleneck, moe (mixture of experts), or a mixture inside a
    bottleneck."""
    groups: Count = 1
    """Number of groups of every convolution larger than 1x1, except the first convolution."""
    norm: Norm | None = "batch"
    """Normalization after each convolution; null: none."""
    norm_affine: bool = True
    """Learnable scale and shift in the norms."""
    layer_drop_rate: Rate = 0.0
    """Dropout rate inside every KAN convolution except the first."""
    layer_drop_kind: DropKind | None = None
    """Dropout of whole maps (channel) or single values (element), or noise on values; null: as published with
    the layer."""
    layer_drop_position: DropPosition | None = None
    """Position of the dropout: before both branches (input), inside that of the basis (branch, squashed,
    basis), or at the end (output); null: as published with the layer."""
    dim_reduction: Positive | None = None
    """Number of channels divided by number of inner channels of a bottleneck; null: as published, 8 or 4."""
    num_experts: Count = 8
    """Number of experts of a mixture."""
    top_k: Count = 2
    """Number of experts that process one sample."""


class KANBackboneConfig(KANConvConfig):
    """Classifiers of KAN convolutions."""

    head: Head | None = None
    """Classifier: linear, with hidden layers (mlp, vgg), with KAN layers (kan, hidden_kan), or nested
    (matryoshka, kantryoshka); null: that of the size."""
    head_hidden_size: Count | None = None
    """Width of the hidden layers of the classifier; null: as published."""


class ConvKANConfig(KANBackboneConfig):
    """ConvKAN: a sequence of KAN convolutions."""

    family: Literal["convkan"]
    """Name of the family: ConvKAN."""
    size: ConvKANSize = 8
    """Number of convolutions; the tuned sizes have the widths of the hyperparameter search, published with
    width_scale=6."""


class VGGKANConfig(KANBackboneConfig):
    """VGG of KAN convolutions."""

    family: Literal["vgg_kan"]
    """Name of the family: VGG-KAN."""
    size: VGGKANSize = 11
    """Number of layers of the corresponding VGG."""
    version: VGGKANVersion = "v1"
    """v1: five stages; v2, v3 and v4: a sixth stage of 128 and 128, 128 and 256, or 256 and 256 channels."""
    pool_attention: bool = False
    """Self-attention before the last two poolings."""
    last_attention: bool = False
    """Self-attention instead of the last convolution."""
    attention_reduction: Positive | None = None
    """Number of channels divided by the width of the attention; null: 1."""
    pool_size: Count = 1
    """Side of the feature map before the classifier; published: 7, and 1 for the ImageNet weights."""


class ResKANConfig(KANBackboneConfig):
    """ResNet of KAN convolutions."""

    family: Literal["res_kan"]
    """Name of the family: ResKANet."""
    size: ResKANSize = 18
    """Number of layers of the corresponding ResNet."""
    stem: ResKANStem = "plain"
    """First convolution: plain: 7x7 with stride 2 and pooling; 64p and 32p: for images of 64 or 32 pixels."""


class DenseKANConfig(KANBackboneConfig):
    """DenseNet of KAN convolutions."""

    family: Literal["dense_kan"]
    """Name of the family: DenseKANet."""
    size: DenseKANSize = 121
    """Number of layers of the corresponding DenseNet; tiny: three blocks of five layers."""
    growth: Count | None = None
    """Number of channels that a layer adds; null: 32, or 48 for size 161."""


class RDKANConfig(KANBackboneConfig):
    """RDNet of KAN convolutions."""

    family: Literal["rd_kan"]
    """Name of the family: RDNet of KAN convolutions."""
    size: RDKANSize = "tiny"
    """Size of the corresponding RDNet."""
    norm: Norm | None = "layer"
    """Normalization after each convolution; null: none."""
    attention: bool = False
    """Self-attention after each dense stage."""
    attention_reduction: Positive | None = None
    """Number of channels divided by the width of the attention; null: 1."""


class KKANConfig(ModelConfig):
    """Small networks of Convolutional KANs (Bodner et al. 2024, arXiv 2406.13155)."""

    takes_basis: ClassVar[bool] = True
    in_name: ClassVar[frozenset[str]] = frozenset({"size", "variant"})
    registered_prefixes: ClassVar[tuple[str, ...]] = KKAN_VARIANTS

    family: Literal["kkan"]
    """Name of the family: networks of Convolutional KANs."""
    variant: KKANVariant = "kkan"
    """kkan: KAN convolutions and KAN classifier; kanc_mlp: linear classifier; conv_kan: plain convolutions;
    conv_mlp: both plain."""
    size: KKANSize = "small"
    """Channels of the convolutions; big: a hidden layer before a linear classifier; wide: for conv_mlp
    only."""
    plain: bool = False
    """true: the plain twin, with neither KAN convolutions nor a KAN classifier."""
    padding: Annotated[int, Field(ge=0, le=1)] = 0
    """Pixels of padding of the convolutions; published: 0; images below 10 pixels need 1."""


class KanifyConfig(Section):
    """Replacement of parts of a network by KAN layers that keep its weights: docs/kat.md."""

    mlp: Literal["group_rational"] | None = None
    """group_rational: feed-forward blocks of KAT; null: unchanged."""
    attention: Literal["karat"] | None = None
    """karat: learned functions instead of the softmax, with new weights; null: unchanged."""
    conv: str | None = None
    """Basis, a name of conf/basis, of convolutions larger than 1x1; null: unchanged."""
    act_init: str | None = None
    """Function that the second rational of each block starts as; null: the activation of the block."""
    num_groups: Count = 8
    """Number of channel groups of each rational; each group has one denominator."""
    match: str | None = None
    """Regular expression that finds the names of the modules to replace; null: all."""


class TimmConfig(ModelConfig):
    """Any classifier of timm: `model=timm model.name=resnet50`."""

    after_building: ClassVar[frozenset[str]] = frozenset({"kanify", "plain"})
    has_kan_layers: ClassVar[bool] = False
    registered_prefixes: ClassVar[tuple[str, ...]] = ()

    family: Literal["timm"]
    """Name of the family: classifiers of timm."""
    pretrained: bool = False
    """Load the published weights of timm, which are downloaded once."""
    plain: bool = False
    """true: the plain twin of a network with KAN parts; model.kanify is not applied."""
    kanify: KanifyConfig = KanifyConfig()
    """Parts that become KAN layers: `model.kanify.mlp=group_rational`."""


class UKANConfig(ModelConfig):
    """U-KAN: a U-Net with KAN layers in the deepest stages (Li et al. 2024, arXiv 2406.02918)."""

    takes_basis: ClassVar[bool] = True

    family: Literal["ukan"]
    """Name of the family: U-KAN."""
    size: UKANSize = "medium"
    """small, medium, large: published S, M, L; crop: of crop fields (arXiv 2408.07040); tiny: not published,
    for CPUs."""
    num_layers: Count = 3
    """Number of KAN layers of each block."""
    plain: bool | tuple[bool, ...] = False
    """true: the MLP twin; a list has one value for each layer of a block."""
    preset: TokenPreset | None = None
    """Published layer, or group_rational, which has no basis; null: the one of the basis."""


class KANUNetConfig(KANConvConfig):
    """U-Net of KAN convolutions."""

    has_residual_branches: ClassVar[bool] = False

    family: Literal["kan_unet"]
    """Name of the family: KAN-U-Net."""
    size: KANUNetSize = 4
    """Number of levels; published: 5."""
    layers: Count = 2
    """Number of convolutions of each level of the encoder and of the decoder."""
    mixer: KANUNetMixer = "conv"
    """Mixing before each level of the decoder: conv: none; self-attention; or focal modulation."""


class ResKANUNetConfig(KANConvConfig):
    """U-Net of residual blocks of KAN convolutions."""

    family: Literal["res_kan_unet"]
    """Name of the family: ResKAN-U-Net."""
    size: ResKANUNetSize = 18
    """Number of layers of the ResNet whose stages the encoder has; published: 18."""


class U2KANConfig(KANConvConfig):
    """U2-Net of KAN convolutions, a U-Net of U-Nets with deep supervision."""

    has_residual_branches: ClassVar[bool] = False

    family: Literal["u2_kan"]
    """Name of the family: U2-KAN."""
    size: U2KANSize = "small"
    """small: 16 channels in all stages; full: 16 to 128."""
    first_kernel_size: Literal[1, 3] = 3
    """Kernel size of the first convolution; published: 1 for size small with bottlenecks."""


class SmpConfig(ModelConfig):
    """Any segmenter of segmentation-models-pytorch: `model=smp model.name=Unet`."""

    has_kan_layers: ClassVar[bool] = False
    registered_prefixes: ClassVar[tuple[str, ...]] = ()

    family: Literal["smp"]
    """Name of the family: segmenters of segmentation-models-pytorch."""
    encoder_name: str = "resnet18"
    """Encoder: a name of segmentation-models-pytorch, or tu-<model of timm or kanvision>."""
    encoder_weights: str | None = None
    """Published weights of the encoder; null: random weights."""


AnyModel = Annotated[
    ConvKANConfig
    | VGGKANConfig
    | ResKANConfig
    | DenseKANConfig
    | RDKANConfig
    | KKANConfig
    | KATConfig
    | KArAtConfig
    | ViTConfig
    | TimmConfig
    | UKANConfig
    | PlainSegmenterConfig
    | KANUNetConfig
    | ResKANUNetConfig
    | U2KANConfig
    | SmpConfig,
    Field(discriminator="family"),
]


class BasisConfig(Section):
    """Basis in which a KAN layer expands its inputs; further keys are arguments of the basis class."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str
    """Short name in `kanvision.bases.BASES`."""

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the basis class."""
        return dict(self.model_extra or {})
