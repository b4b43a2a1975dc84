"""Layers: expansions by a basis in linear and convolutional form, and what stands around them."""

from .activation import create_activation
from .auxiliary import add_auxiliary, collect_auxiliary
from .bottleneck import BottleneckKANConv1d, BottleneckKANConv2d, BottleneckKANConv3d, BottleneckKANLinear
from .conv import KANConv1d, KANConv2d, KANConv3d
from .dropout import DROP_KINDS, DROP_PLACES, NoiseInjection
from .edge_wavelet import EdgeWaveletConv1d, EdgeWaveletConv2d, EdgeWaveletConv3d
from .expansion import INITS, KANOptions
from .linear import KANLinear
from .mlp import GroupRationalMlp, KANMlp
from .norm import create_norm
from .presets import PRESETS, preset, preset_of_basis
from .rational import RATIONAL_PRESETS, GroupRational
from .structure import change_structure, restore_structure, structural_change, structure_of

__all__ = [
    "DROP_KINDS",
    "DROP_PLACES",
    "INITS",
    "PRESETS",
    "RATIONAL_PRESETS",
    "BottleneckKANConv1d",
    "BottleneckKANConv2d",
    "BottleneckKANConv3d",
    "BottleneckKANLinear",
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
    "KANOptions",
    "NoiseInjection",
    "add_auxiliary",
    "change_structure",
    "collect_auxiliary",
    "create_activation",
    "create_norm",
    "preset",
    "preset_of_basis",
    "restore_structure",
    "structural_change",
    "structure_of",
]
