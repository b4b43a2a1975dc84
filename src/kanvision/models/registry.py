"""Model registry: kanvision's and timm's models by name."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    "register_network",
    "register_segmenter",
]

NONE_IS_A_VALUE = ("norm", "stem_norm")
"""Arguments of kanvision's models for which None is a legal value and not the default."""
SHARED = ("hf-hub:", "hf_hub:", "local-dir:")
"""Prefixes by which timm finds a shared model."""
_ENTRYPOINTS: dict[str, Callable[..., Any]] = {}
"""Functions that build kanvision's networks, by name; timm has one function of a name, whose ever it is."""
_SEGMENTERS: set[str] = set()


def create_model(name: str, **kwargs: Any) -> nn.Module:
    """Build a model of kanvision or of timm.

    Args:
        name: Name in timm's registry, with or without a tag ("kat_tiny_patch16_224", "resnet18.a1_in1k"), or
            a place of a shared model ("hf-hub:owner/name", "local-dir:folder"). A tag of
            `kanvision.list_pretrained` builds the network of those weights, and `pretrained=True` loads them.
        **kwargs: Arguments of timm's create_model and of the model: `num_classes`, `in_chans`, ...

    Raises:
        ValueError: There is no such model; the message lists the closest names.
    """
    if name.startswith(SHARED):
        return timm.create_model(name, **kwargs)
    if not timm.is_model(name):
        plugins.import_installed()
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, [*list_models(), *timm.list_models()], n=5)
        hint = f"nearest: {', '.join(dict.fromkeys(near))}" if near else "see list_models()"
        raise ValueError(f"There is no model {name!r}; {hint}.")
    base = name.partition(".")[0]
    if _is_own(base):
        kwargs = encode_none_arguments(kwargs)
    with _own_registration(base):
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


def register_network(entrypoint: Callable[..., Any]) -> Callable[..., Any]:
    """Register a function that builds a network of kanvision with timm; used as a decorator."""
    _ENTRYPOINTS[entrypoint.__name__] = entrypoint
    return _register(entrypoint)


def register_segmenter(entrypoint: Callable[..., Any]) -> Callable[..., Any]:
    """Register a function that builds a segmentation network with timm; used as a decorator."""
    _SEGMENTERS.add(entrypoint.__name__)
    return register_network(entrypoint)


def _register(entrypoint: Callable[..., Any]) -> Callable[..., Any]:
    with warnings.catch_warnings():
        # the code of KAT registers networks of the same names
        warnings.filterwarnings("ignore", message="Overwriting .* in registry")
        return register_model(entrypoint)


@contextmanager
def _own_registration(name: str) -> Iterator[None]:
    """Register our network of a name for a while, if another package has registered its own after ours."""
    ours = _ENTRYPOINTS.get(name)
    theirs = timm.model_entrypoint(name)
    if ours is None or theirs is ours:
        yield
        return
    _register(ours)
    try:
        yield
    finally:
        _register(theirs)


def is_segmenter(name: str) -> bool:
    """Return True if a name, with or without a tag, is a segmentation network of kanvision."""
    return name.partition(".")[0] in _SEGMENTERS


def _is_own(name: str) -> bool:
    if name in _ENTRYPOINTS:
        return True
    return plugins.is_from_plugin(str(timm.model_entrypoint(name).__module__))
