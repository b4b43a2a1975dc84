"""Model registry: kanvision's and timm's models by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

import timm
from timm.models import register_model
from torch import nn

from kanvision import plugins
from kanvision.spec.tasks import KINDS

__all__ = [
    "create_model",
    "encode_none_arguments",
    "is_segmenter",
    "list_models",
    "register_segmenter",
]

OWN_PACKAGE = __name__.rpartition(".")[0]
NONE_IS_A_VALUE = ("norm", "stem_norm")
"""Arguments of kanvision's models for which None is a legal value and not the default."""
_SEGMENTERS: set[str] = set()


def create_model(name: str, **kwargs: Any) -> nn.Module:
    """Build a model of kanvision or of timm.

    Args:
        name: Name in timm's registry, with or without a tag ("kat_tiny_patch16_224", "resnet18.a1_in1k").
        **kwargs: Arguments of timm's create_model and of the model: `num_classes`, `in_chans`, ...

    Raises:
        ValueError: There is no such model; the message lists the closest names.
    """
    if not timm.is_model(name):
        plugins.import_installed()
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, [*list_models(), *timm.list_models()], n=5)
        hint = f"nearest: {', '.join(dict.fromkeys(near))}" if near else "see list_models()"
        raise ValueError(f"There is no model {name!r}; {hint}.")
    if _is_own(name.partition(".")[0]):
        kwargs = encode_none_arguments(kwargs)
    return timm.create_model(name, **kwargs)


def encode_none_arguments(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Replace None by "none" where it is a legal value, since timm drops arguments that are None."""
    return {
        key: "none" if value is None and key in NONE_IS_A_VALUE else value for key, value in kwargs.items()
    }


def list_models(filter: str = "*", kind: str | None = None) -> list[str]:
    """Return the names of kanvision's models and of those of imported plugins that match a pattern, sorted.

    Args:
        filter: Wildcard pattern.
        kind: One of `KINDS`; None for all.

    Raises:
        ValueError: There is no such kind.
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"kind={kind!r} is not known; legal values: {', '.join(KINDS)}")
    names = [name for name in timm.list_models(filter) if _is_own(name)]
    return sorted(name for name in names if kind is None or (kind == "segmenter") == is_segmenter(name))


def register_segmenter(entrypoint: Callable[..., Any]) -> Callable[..., Any]:
    """Register a function that builds a segmentation network with timm; used as a decorator."""
    _SEGMENTERS.add(entrypoint.__name__)
    return register_model(entrypoint)


def is_segmenter(name: str) -> bool:
    """Return True if a name, with or without a tag, is a segmentation network of kanvision."""
    return name.partition(".")[0] in _SEGMENTERS


def _is_own(name: str) -> bool:
    module = str(timm.model_entrypoint(name).__module__)
    return module.startswith(f"{OWN_PACKAGE}.") or plugins.is_from_plugin(module)
