"""Keys of `model` for the segmentation networks without KAN layers that U-KAN is compared with."""

from __future__ import annotations

from typing import Literal

from .base import ModelConfig, Positive

__all__ = [
    "AttentionUNetConfig",
    "NestedUNetConfig",
    "RollingUNetConfig",
    "UMambaConfig",
    "UNeXtConfig",
    "UNetConfig",
]


class UNetConfig(ModelConfig):
    """U-Net without any KAN layer (Ronneberger et al. 2015, arXiv 1505.04597)."""

    family: Literal["unet"]
    """Marks these keys as those of a U-Net."""
    size: Literal["tiny", "small", "base", "large", "xlarge"] = "base"
    """base: 64 to 512 channels, bilinear; large: to 1024, transposed; xlarge: to 1024, a resize and a
    convolution, as U-KAN was compared with; the others are narrower bases."""
    width_scale: Positive = 1.0
    """Multiplies the width of every layer."""


class AttentionUNetConfig(ModelConfig):
    """U-Net with a gate on each skip (Oktay et al. 2018, arXiv 1804.03999)."""

    family: Literal["attention_unet"]
    """Marks these keys as those of an Attention U-Net."""
    size: Literal["tiny", "base"] = "base"
    """base: 64 to 1024 channels, as in the tables; tiny is ours, for CPUs."""
    width_scale: Positive = 1.0
    """Multiplies the width of every layer."""


class NestedUNetConfig(ModelConfig):
    """U-Net++ (Zhou et al. 2018, arXiv 1807.10165), without its deep supervision."""

    family: Literal["nested_unet"]
    """Marks these keys as those of a U-Net++."""
    size: Literal["tiny", "small", "base"] = "base"
    """base: 64 to 1024 channels, as in the table of U-KAN; small: half as wide, as in its own paper."""
    width_scale: Positive = 1.0
    """Multiplies the width of every layer."""


class UNeXtConfig(ModelConfig):
    """UNeXt: shifted MLPs in the deepest stages (Valanarasu and Patel 2022, arXiv 2203.04967)."""

    family: Literal["unext"]
    """Marks these keys as those of a UNeXt."""
    size: Literal["small", "base"] = "base"
    """base: that of the tables; small: UNeXt-S."""


class RollingUNetConfig(ModelConfig):
    """Rolling-UNet: convolutions, and rolled MLPs in the deepest stages (Liu et al., AAAI 2024)."""

    family: Literal["rolling_unet"]
    """Marks these keys as those of a Rolling-UNet."""
    size: Literal["small", "medium", "large"] = "small"
    """Published S, M and L; the table of U-KAN has S."""
    width_scale: Positive = 1.0
    """Multiplies the width of every layer."""


class UMambaConfig(ModelConfig):
    """U-Mamba: a residual U-Net with selective state spaces (Ma et al. 2024, arXiv 2401.04722)."""

    family: Literal["u_mamba"]
    """Marks these keys as those of a U-Mamba."""
    size: Literal["tiny", "small", "base"] = "base"
    """Stages of nnU-Net's plan for images of 512 (base) or 256 pixels (small); tiny is ours, for CPUs."""
    mamba: Literal["bottleneck", "encoder"] = "bottleneck"
    """Where state spaces are: behind the deepest stage (U-Mamba_Bot), or behind each (U-Mamba_Enc)."""
    width_scale: Positive = 1.0
    """Multiplies the width of every layer."""
