"""Layers: expansions by a basis in linear and convolutional form, and what stands around them."""

from .activation import create_activation
from .conv import KANConv1d, KANConv2d, KANConv3d
from .edge_wavelet import EdgeWaveletConv1d, EdgeWaveletConv2d, EdgeWaveletConv3d
from .expansion import INITS
from .linear import KANLinear
from .mlp import GroupRationalMlp, KANMlp
from .norm import create_norm
from .presets import PRESETS, preset, preset_of_basis
from .rational import RATIONAL_PRESETS, GroupRational

__all__ = [
    "INITS",
    "PRESETS",
    "RATIONAL_PRESETS",
    "EdgeWaveletConv1d",
    "EdgeWaveletConv2d",
    "EdgeWaveletConv3d",
    "GroupRational",
    "GroupRationalMlp",
    "KANConv1d",
    "KANConv2d",
    "KANConv3d",
    "KANLinear",
    "KANMlp",
    "create_activation",
    "create_norm",
    "preset",
    "preset_of_basis",
]
