"""Layers: linear and convolutional KAN layers, and the modules that are built from them."""

from .activation import create_activation
from .attention import KANSelfAttention1d, KANSelfAttention2d, KANSelfAttention3d
from .auxiliary_loss import add_auxiliary, collect_auxiliary
from .base import INITS
from .bottleneck import BottleneckKANConv1d, BottleneckKANConv2d, BottleneckKANConv3d, BottleneckKANLinear
from .conv import KANConv1d, KANConv2d, KANConv3d
from .dropout import NoiseInjection
from .edge_wavelet import EdgeWaveletConv1d, EdgeWaveletConv2d, EdgeWaveletConv3d
from .focal import KANFocalModulation1d, KANFocalModulation2d, KANFocalModulation3d
from .function_kinds import learned_functions
from .functions import Edge, LearnedFunctions, plot_layer
from .fuse_norms import fuse_norms
from .grid import GridMove, extend_grid, init_grids, move_grids, refine_grid
from .grid_fit import map_functions
from .grid_inputs import GridSite, grid_sites, measure_inputs, measure_share_outside
from .karat import KArAttention, KArAtWindowAttention, karat_attn_layer
from .karat_operator import KArAtOperator
from .linear import KANLinear
from .merge_bottlenecks import merge_bottlenecks
from .mlp import GroupRationalMlp, KANMlp
from .moe import (
    MoEBottleneckKANConv1d,
    MoEBottleneckKANConv2d,
    MoEBottleneckKANConv3d,
    MoEKANConv1d,
    MoEKANConv2d,
    MoEKANConv3d,
)
from .moe_gate import TopKGate
from .norm import create_norm
from .options import KANOptions
from .peft import add_adapters, merge_adapters
from .presets import PRESETS, find_default_preset, get_preset
from .rational import RATIONAL_PRESETS, GroupRational
from .rational_fit import RationalFit, fit_rational
from .regularization import KANPenalty
from .selection import SelectionSite, prune_selection, select_basis, selection_sites
from .structure import change_structure, restore_structure, structural_change, structure_changes

__all__ = [
    "INITS",
    "PRESETS",
    "RATIONAL_PRESETS",
    "BottleneckKANConv1d",
    "BottleneckKANConv2d",
    "BottleneckKANConv3d",
    "BottleneckKANLinear",
    "Edge",
    "EdgeWaveletConv1d",
    "EdgeWaveletConv2d",
    "EdgeWaveletConv3d",
    "GridMove",
    "GridSite",
    "GroupRational",
    "GroupRationalMlp",
    "KANConv1d",
    "KANConv2d",
    "KANConv3d",
    "KANFocalModulation1d",
    "KANFocalModulation2d",
    "KANFocalModulation3d",
    "KANLinear",
    "KANMlp",
    "KANOptions",
    "KANPenalty",
    "KANSelfAttention1d",
    "KANSelfAttention2d",
    "KANSelfAttention3d",
    "KArAtOperator",
    "KArAtWindowAttention",
    "KArAttention",
    "LearnedFunctions",
    "MoEBottleneckKANConv1d",
    "MoEBottleneckKANConv2d",
    "MoEBottleneckKANConv3d",
    "MoEKANConv1d",
    "MoEKANConv2d",
    "MoEKANConv3d",
    "NoiseInjection",
    "RationalFit",
    "SelectionSite",
    "TopKGate",
    "add_adapters",
    "add_auxiliary",
    "change_structure",
    "collect_auxiliary",
    "create_activation",
    "create_norm",
    "extend_grid",
    "find_default_preset",
    "fit_rational",
    "fuse_norms",
    "get_preset",
    "grid_sites",
    "init_grids",
    "karat_attn_layer",
    "learned_functions",
    "map_functions",
    "measure_inputs",
    "measure_share_outside",
    "merge_adapters",
    "merge_bottlenecks",
    "move_grids",
    "plot_layer",
    "prune_selection",
    "refine_grid",
    "restore_structure",
    "select_basis",
    "selection_sites",
    "structural_change",
    "structure_changes",
]
