"""Networks, all registered with timm: `timm.create_model` finds them once this package is imported.

`BUILDERS` maps the legal values of `model.kind` to functions of a model's name and arguments.
"""

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules

from torch import nn

from kanvision.spec.tasks import Kind

from .attention_transfer import AttentionTransfer
from .feature_locations import FeatureLocation, feature_location, feature_locations
from .kanify import kanify
from .mimetic import init_mimetic_attention
from .registry import create_model, list_models, register_segmenter
from .segmenter import Segmenter, create_segmenter
from .timm_protocol import set_grad_checkpointing
from .transformer import choose_patch_size

__all__ = [
    "BUILDERS",
    "AttentionTransfer",
    "FeatureLocation",
    "Segmenter",
    "choose_patch_size",
    "create_model",
    "create_segmenter",
    "feature_location",
    "feature_locations",
    "init_mimetic_attention",
    "kanify",
    "list_models",
    "register_segmenter",
    "set_grad_checkpointing",
]

for _module in iter_modules(__path__):  # each registers its networks with timm
    import_module(f"{__name__}.{_module.name}")

BUILDERS: dict[Kind, Callable[..., nn.Module]] = {
    "classifier": create_model,
    "segmenter": create_segmenter,
}
