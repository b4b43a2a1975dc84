"""Keys of `model` for segmentation networks without KAN layers, the baselines of U-KAN."""

from __future__ import annotations

from typing import ClassVar, Literal

from kanvision.spec.models import (
    AttentionUNetSize,
    NestedUNetSize,
    RollingUNetSize,
    UMambaSize,
    UMambaVariant,
    UNetSize,
    UNeXtSize,
)

from .base import ModelConfig, Positive

__all__ = ["PlainSegmenterConfig"]


class UNetConfig(ModelConfig):
    """U-Net without any KAN layer (Ronneberger et al. 2015, arXiv 1505.04597)."""

    has_kan_layers: ClassVar[bool] = False
    has_residual_branches: ClassVar[bool] = False

    family: Literal["unet"]
    """Name of the family: U-Net."""
    size: UNetSize = "base"
    """base: 64 to 512 channels, bilinear upsampling; large: 64 to 1024, transposed convolutions; xlarge: 64
    to 1024, a resize and a convolution, the baseline of the U-KAN paper; tiny and small: narrower than
    base."""
    width_scale: Positive = 1.0
    """Factor on the width of every layer."""


class AttentionUNetConfig(ModelConfig):
    """U-Net with a gate on each skip (Oktay et al. 2018, arXiv 1804.03999)."""

    has_kan_layers: ClassVar[bool] = False
    has_residual_branches: ClassVar[bool] = False

    family: Literal["attention_unet"]
    """Name of the family: Attention U-Net."""
    size: AttentionUNetSize = "base"
    """base: 64 to 1024 channels, as published; tiny: not published, for CPUs."""
    width_scale: Positive = 1.0
    """Factor on the width of every layer."""


class NestedUNetConfig(ModelConfig):
    """U-Net++ (Zhou et al. 2018, arXiv 1807.10165), without its deep supervision."""

    has_kan_layers: ClassVar[bool] = False
    has_residual_branches: ClassVar[bool] = False

    family: Literal["nested_unet"]
    """Name of the family: U-Net++."""
    size: NestedUNetSize = "base"
    """base: 64 to 1024 channels, the baseline of the U-KAN paper; small: half as wide, as in its own
    paper."""
    width_scale: Positive = 1.0
    """Factor on the width of every layer."""


class UNeXtConfig(ModelConfig):
    """UNeXt: shifted MLPs in the deepest stages (Valanarasu and Patel 2022, arXiv 2203.04967)."""

    has_kan_layers: ClassVar[bool] = False

    family: Literal["unext"]
    """Name of the family: UNeXt."""
    size: UNeXtSize = "base"
    """base: the published UNeXt; small: the published UNeXt-S."""


class RollingUNetConfig(ModelConfig):
    """Rolling-UNet: a U-Net with rolled MLPs in the deepest stages (Liu et al., AAAI 2024)."""

    has_kan_layers: ClassVar[bool] = False
    has_residual_branches: ClassVar[bool] = False

    family: Literal["rolling_unet"]
    """Name of the family: Rolling-UNet."""
    size: RollingUNetSize = "small"
    """Published sizes S, M and L; S is the baseline of the U-KAN paper."""
    width_scale: Positive = 1.0
    """Factor on the width of every layer."""


class UMambaConfig(ModelConfig):
    """U-Mamba: a residual U-Net with selective state spaces (Ma et al. 2024, arXiv 2401.04722)."""

    has_kan_layers: ClassVar[bool] = False

    family: Literal["u_mamba"]
    """Name of the family: U-Mamba."""
    size: UMambaSize = "base"
    """Stages of nnU-Net's plan for images of 512 (base) or 256 pixels (small); tiny: not published, for
    CPUs."""
    mamba: UMambaVariant = "bottleneck"
    """Position of the state spaces: behind the deepest stage (U-Mamba_Bot), or behind each stage of the
    encoder (U-Mamba_Enc)."""
    width_scale: Positive = 1.0
    """Factor on the width of every layer."""


PlainSegmenterConfig = (
    UNetConfig | AttentionUNetConfig | NestedUNetConfig | UNeXtConfig | RollingUNetConfig | UMambaConfig
)
