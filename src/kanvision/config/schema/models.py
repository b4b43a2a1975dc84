"""Keys of `model` and `basis`: what is trained."""

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
    RDKANSize,
    ResKANSize,
    ResKANStem,
    ResKANUNetSize,
    U2KANSize,
    UKANSize,
    VGGKANSize,
    VGGKANVersion,
)

from .base import Count, ModelConfig, Positive, Rate, Section
from .transformers import KArAtConfig, KATConfig, ViTConfig
from .unets import PlainSegmenterConfig


class KANConvConfig(ModelConfig):
    """Keys of the networks of KAN convolutions (Drokin 2024, arXiv 2407.01092)."""

    takes_basis: ClassVar[bool] = True
    null_is_a_value: ClassVar[frozenset[str]] = frozenset({"norm"})

    width_scale: Positive = 1.0
    """Multiplies the width of every layer."""
    preset: str | None = None
    """Published layer such as kagn; null: the one of the basis. wavkan has one wavelet for each edge."""
    plain: bool | Literal["pointwise"] = False
    """true: the plain twin, ReLU(norm(convolution)); pointwise: only the 1x1 convolutions are plain."""
    pointwise_preset: str | None = None
    """Published layer for 1x1 convolutions; null: the same as for the others."""
    form: Form = "plain"
    """What stands for a convolution: itself, a bottleneck, a mixture of experts, one inside a bottleneck."""
    groups: Count = 1
    """Groups of every convolution larger than 1x1 but the first."""
    norm: Norm | None = "batch"
    """Normalization after each convolution."""
    norm_affine: bool = True
    """Give norms a learnable scale and shift."""
    layer_drop_rate: Rate = 0.0
    """Dropout inside every KAN convolution but the first."""
    layer_drop_kind: DropKind | None = None
    """Whole maps, single values, or noise on them; null: as published with the layer."""
    layer_drop_position: DropPosition | None = None
    """Before both branches, inside that of the basis, or at the end; null: as published with the layer."""
    dim_reduction: Positive | None = None
    """Channels over inner channels of a bottleneck; null: 8, or 4 where published so."""
    num_experts: Count = 8
    """Experts of a mixture."""
    top_k: Count = 2
    """Experts that work on one sample."""


class KANBackboneConfig(KANConvConfig):
    """Keys of the classifiers among them."""

    head: Head | None = None
    """Classifier: linear, with hidden layers, a KAN layer, or nested; null: the one of the size."""
    head_hidden_size: Count | None = None
    """Width of the hidden layers of such a classifier; null: as published."""


class ConvKANConfig(KANBackboneConfig):
    """Plain stacks of KAN convolutions."""

    family: Literal["convkan"]
    """Marks these keys as those of a ConvKAN."""
    size: ConvKANSize = 8
    """Number of convolutions; the tuned ones have other widths, published at width_scale=6."""


class VGGKANConfig(KANBackboneConfig):
    """VGG of KAN convolutions."""

    family: Literal["vgg_kan"]
    """Marks these keys as those of a VGG-KAN."""
    size: VGGKANSize = 11
    """Number of layers of the VGG it is made after."""
    version: VGGKANVersion = "v1"
    """v1: five stages; the others have a sixth, of 128 and 128, 128 and 256, or 256 and 256 channels."""
    pool_attention: bool = False
    """Self-attention before the last two poolings."""
    last_attention: bool = False
    """Self-attention in place of the last convolution."""
    attention_reduction: Positive | None = None
    """Channels over width of the attention; null: the same width."""
    pool_size: Count = 1
    """Side of the map before the classifier; published 7, and 1 for the ImageNet weights."""


class ResKANConfig(KANBackboneConfig):
    """ResNet of KAN convolutions."""

    family: Literal["res_kan"]
    """Marks these keys as those of a ResKANet."""
    size: ResKANSize = 18
    """Number of layers of the ResNet it is made after."""
    stem: ResKANStem = "plain"
    """First convolution: 7x7 with stride 2 and pooling, or for images of 64 or 32 pixels."""


class DenseKANConfig(KANBackboneConfig):
    """DenseNet of KAN convolutions."""

    family: Literal["dense_kan"]
    """Marks these keys as those of a DenseKANet."""
    size: DenseKANSize = 121
    """Number of layers of the DenseNet it is made after; tiny has three blocks of five."""
    growth: Count | None = None
    """Channels that a layer adds; null: 32, or 48 for 161."""
    grad_checkpointing: bool | None = None
    """Recompute the concatenated inputs of layers in the backward pass; null: for tiny only."""


class RDKANConfig(KANBackboneConfig):
    """RDNet of KAN convolutions."""

    family: Literal["rd_kan"]
    """Marks these keys as those of an RDNet of KAN convolutions."""
    size: RDKANSize = "tiny"
    """Size of the RDNet it is made after."""
    norm: Norm | None = "layer"
    """Normalization after each convolution."""
    attention: bool = False
    """Self-attention behind each dense stage."""
    attention_reduction: Positive | None = None
    """Channels over width of the attention; null: the same width."""


class KKANConfig(ModelConfig):
    """The small nets of Convolutional KANs (Bodner et al. 2024, arXiv 2406.13155)."""

    takes_basis: ClassVar[bool] = True
    in_name: ClassVar[frozenset[str]] = frozenset({"size", "variant"})
    registered_prefixes: ClassVar[tuple[str, ...]] = KKAN_VARIANTS

    family: Literal["kkan"]
    """Marks these keys as those of a net of Convolutional KANs."""
    variant: KKANVariant = "kkan"
    """KAN convolutions and KAN classifier, one of them plain (kanc_mlp, conv_kan), or both (conv_mlp)."""
    size: KKANSize = "small"
    """Channels of the convolutions; big has a hidden layer and goes with a linear classifier, wide is a
    conv_mlp."""
    plain: bool = False
    """true: the plain twin, with neither KAN convolutions nor a KAN classifier."""
    padding: Annotated[int, Field(ge=0, le=1)] = 0
    """Cells around the image; published 0, images below 10 pixels need 1."""


class KanifyConfig(Section):
    """Parts of a network that become KAN layers; its weights are kept (see docs/kat.md)."""

    mlp: Literal["group_rational"] | None = None
    """group_rational: feed-forward blocks as in KAT; null: as they are."""
    attention: Literal["karat"] | None = None
    """karat: learned functions in the place of the softmax, which start anew; null: as it is."""
    conv: str | None = None
    """Basis (a name in conf/basis) that convolutions larger than 1x1 get; null: as they are."""
    act_init: str | None = None
    """Preset of the second rational of each block; null: fitted to the block's own activation."""
    num_groups: Count = 8
    """Channel groups of each rational that share one denominator."""
    match: str | None = None
    """Regular expression; only modules in whose name it is found are converted; null: all."""


class TimmConfig(ModelConfig):
    """Any classifier of timm: `model=timm model.name=resnet50`."""

    after_building: ClassVar[frozenset[str]] = frozenset({"kanify", "plain"})
    has_kan_layers: ClassVar[bool] = False
    registered_prefixes: ClassVar[tuple[str, ...]] = ()

    family: Literal["timm"]
    """Marks these keys as those of any classifier of timm."""
    pretrained: bool = False
    """Load timm's published weights (needs network access once)."""
    plain: bool = False
    """true: the plain twin of a network with KAN parts; model.kanify is not applied."""
    kanify: KanifyConfig = KanifyConfig()
    """What of it becomes a KAN: `model.kanify.mlp=group_rational`."""


class UKANConfig(ModelConfig):
    """U-KAN: convolutions, and KAN layers in the deepest stages (Li et al. 2024, arXiv 2406.02918)."""

    takes_basis: ClassVar[bool] = True

    family: Literal["ukan"]
    """Marks these keys as those of a U-KAN."""
    size: UKANSize = "medium"
    """Published S, M and L; crop is that of crop fields (arXiv 2408.07040), tiny is ours, for CPUs."""
    num_layers: Count = 3
    """KAN layers of each block."""
    plain: bool | tuple[bool, ...] = False
    """true: the MLP twin; a list has one value for each layer of a block."""
    preset: str | None = None
    """Published layer such as kagn, or group_rational, which has no basis; null: the one of the basis."""


class KANUNetConfig(KANConvConfig):
    """U-Net of KAN convolutions."""

    has_residual_branches: ClassVar[bool] = False

    family: Literal["kan_unet"]
    """Marks these keys as those of a KAN-U-Net."""
    size: KANUNetSize = 4
    """Number of levels; the published tables have 5."""
    layers: Count = 2
    """Convolutions of each level, on each way."""
    mixer: KANUNetMixer = "conv"
    """Before each level of the decoder: nothing more, self-attention or focal modulation."""


class ResKANUNetConfig(KANConvConfig):
    """U-Net of residual blocks of KAN convolutions."""

    family: Literal["res_kan_unet"]
    """Marks these keys as those of a ResKAN-U-Net."""
    size: ResKANUNetSize = 18
    """Number of layers of the ResNet whose stages the encoder has; published is 18."""


class U2KANConfig(KANConvConfig):
    """U2-Net of KAN convolutions, whose stages are U-Nets; trained with deep supervision."""

    has_residual_branches: ClassVar[bool] = False

    family: Literal["u2_kan"]
    """Marks these keys as those of a U2-KAN."""
    size: U2KANSize = "small"
    """small: 16 channels everywhere; full: 16 to 128."""
    first_kernel_size: Literal[1, 3] = 3
    """Of the first convolution; published 1 for the small size with bottlenecks."""


class SmpConfig(ModelConfig):
    """Any segmenter of segmentation-models-pytorch, for example `model=smp model.name=Unet`."""

    has_kan_layers: ClassVar[bool] = False
    registered_prefixes: ClassVar[tuple[str, ...]] = ()

    family: Literal["smp"]
    """Marks these keys as those of any segmenter of segmentation-models-pytorch."""
    encoder_name: str = "resnet18"
    """Encoder: a name of smp, or `tu-<any timm model>`, kanvision's own included."""
    encoder_weights: str | None = None
    """Published encoder weights, or null for a random start."""


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
    """Which functions a KAN layer expands its input in; further keys are the basis class's own arguments."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str
    """Short name in `kanvision.bases.BASES`."""

    def arguments(self) -> dict[str, Any]:
        """Arguments of the basis class."""
        return dict(self.model_extra or {})
