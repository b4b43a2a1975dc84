"""Find and build models by name: a thin front of timm's registry, where kanvision's own models are too."""

from __future__ import annotations

import difflib
from typing import Any

import timm
from torch import nn

__all__ = ["create_model", "list_models", "spelt_out"]

OWN_PACKAGE = __name__.rpartition(".")[0]
NONE_IS_A_VALUE = ("norm", "stem_norm")
"""Arguments of our models whose None is a choice and not the absence of one."""


def create_model(name: str, **kwargs: Any) -> nn.Module:
    """Build a model of kanvision or of timm.

    Args:
        name: Name in timm's registry, with or without a tag ("kat_tiny_patch16_224", "resnet18.a1_in1k").
        **kwargs: Arguments of timm's create_model and of the model: `num_classes`, `in_chans`, ...

    Raises:
        ValueError: There is no such model; the message has the nearest names.
    """
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, [*list_models(), *timm.list_models()], n=5)
        hint = f"nearest: {', '.join(dict.fromkeys(near))}" if near else "see list_models()"
        raise ValueError(f"There is no model {name!r}; {hint}.")
    if _is_own(name.partition(".")[0]):
        kwargs = spelt_out(kwargs)
    return timm.create_model(name, **kwargs)


def spelt_out(kwargs: dict[str, Any]) -> dict[str, Any]:
    """The same arguments with "none" for those None that are a choice: timm leaves out arguments of None."""
    return {
        key: "none" if value is None and key in NONE_IS_A_VALUE else value for key, value in kwargs.items()
    }


def list_models(filter: str = "*") -> list[str]:
    """Names of kanvision's own models that match a wildcard pattern, sorted."""
    return sorted(name for name in timm.list_models(filter) if _is_own(name))


def _is_own(name: str) -> bool:
    module = str(timm.model_entrypoint(name).__module__)
    return module.startswith(f"{OWN_PACKAGE}.")
