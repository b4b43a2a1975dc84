"""Networks, all registered with timm: `timm.create_model` finds them once this package is imported.

`BUILDERS` maps the legal values of `model.kind` to functions of a model's name and arguments.
"""

from collections.abc import Callable

from torch import nn

from . import (
    attention_unet,
    convkan,
    dense_kan,
    kan_unet,
    karat,
    kat,
    kkan,
    nested_unet,
    rd_kan,
    res_kan,
    res_kan_unet,
    rolling_unet,
    u2_kan,
    u_mamba,
    ukan,
    unet,
    unext,
    vgg_kan,
    vit,
)
from .attention_transfer import AttentionTransfer
from .feature_locations import LOCATIONS, FeatureLocation, feature_location, feature_locations
from .kanify import kanify
from .registry import create_model, list_models
from .segmenter import Segmenter, create_segmenter
from .transformer import patch_size_for

__all__ = [
    "BUILDERS",
    "LOCATIONS",
    "AttentionTransfer",
    "FeatureLocation",
    "Segmenter",
    "attention_unet",
    "convkan",
    "create_model",
    "create_segmenter",
    "dense_kan",
    "feature_location",
    "feature_locations",
    "kan_unet",
    "kanify",
    "karat",
    "kat",
    "kkan",
    "list_models",
    "nested_unet",
    "patch_size_for",
    "rd_kan",
    "res_kan",
    "res_kan_unet",
    "rolling_unet",
    "u2_kan",
    "u_mamba",
    "ukan",
    "unet",
    "unext",
    "vgg_kan",
    "vit",
]

BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "classifier": create_model,
    "segmenter": create_segmenter,
}
